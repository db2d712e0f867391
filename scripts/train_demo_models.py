#!/usr/bin/env python
"""Train the embedded demo models: a byte-level BPE tokenizer, a GPT-NeoX target, drafts distilled from it.

A draft is trained for agreement: the KL divergence of the target's next-token distribution from its own,
half on the training text and half on what the target itself writes at temperature 0.8.

Text: the standard library of the running Python (its tests and the numeric tables of `encodings`
left out, the modules in `bitdraft.texts.STDLIB_HELD_OUT` held out), the language reference in
`pydoc_data.topics`, and any text file given by `--text`. Sentences of a `--text` file that contain
`<unk>` are dropped: WikiText's tokenised form has them, real text has not.

Deterministic for one seed, one machine type and one set of library versions. Each model is
evaluated on the held-out modules and on every `--held-out` file, beside a unigram model fitted on
the training tokens; the figures go into `training.json` in the model's folder.

    python scripts/train_demo_models.py --text wiki.train.txt --held-out wiki.valid.txt
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import sysconfig
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from bitdraft.inputs.datasets import STDLIB_HELD_OUT, read_stdlib_module

END_OF_TEXT = "<|endoftext|>"
CONTEXT = 2048
HEAD_SIZE = 32
SHORT = 256
LONG_SHARE = 0.12  # of the tokens, at the end, in sequences as long as the context


@dataclass(frozen=True)
class Recipe:
    num_layers: int
    hidden_size: int
    num_tokens: int
    learning_rate: float  # of AdamW; Muon's is ten times higher
    teacher: str | None = None


RECIPES = {
    "target": Recipe(num_layers=16, hidden_size=192, num_tokens=5_000_000, learning_rate=2e-3),
    "draft-small": Recipe(1, 96, num_tokens=8_000_000, learning_rate=4e-3, teacher="target"),
    "draft-medium": Recipe(2, 128, num_tokens=8_000_000, learning_rate=3e-3, teacher="target"),
}
WRITTEN_TOKENS, WRITTEN_PROMPT, WRITTEN_LENGTH, WRITTEN_AT = 600_000, 64, 96, 0.8


def stdlib_training_text() -> list[str]:
    """Every standard-library module but tests, code tables and the held-out ones, by path order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped_dirs = {"site-packages", "test", "tests", "idle_test", "encodings", "__pycache__"}
    held_out = {root / name for name in STDLIB_HELD_OUT}
    texts = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if skipped_dirs.isdisjoint(parts) and parts[0] != "pydoc_data" and path not in held_out:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    from pydoc_data.topics import topics

    return texts + [topics[name] for name in sorted(topics)]


def file_text(path: Path) -> list[str]:
    """A file's sections of about 4,000 characters at line ends, without sentences that hold `<unk>`."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if "<unk>" in line:
            kept = [s for s in line.rstrip("\n").split(" . ") if "<unk>" not in s]
            lines.append(" . ".join(kept) + " \n" if kept else "")
        else:
            lines.append(line)
    sections, section = [], ""
    for line in lines:
        section += line
        if len(section) > 4000:
            sections.append(section)
            section = ""
    return [*sections, section] if section.strip() else sections


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """All texts, each ended by the end-of-text token, as one row of token ids."""
    encodings = tokenizer.backend_tokenizer.encode_batch(texts)
    end = tokenizer.eos_token_id
    return torch.tensor([i for e in encodings for i in (*e.ids, end)])


def unigram_ppl(train_ids: torch.Tensor, held_out: torch.Tensor, vocab_size: int) -> float:
    counts = torch.bincount(train_ids, minlength=vocab_size).double() + 1
    return math.exp(-(counts / counts.sum()).log()[held_out].mean())


@torch.inference_mode()
def model_ppl(model: GPTNeoXForCausalLM, ids: torch.Tensor, max_tokens: int = 100_000) -> float:
    total, count = 0.0, 0
    for start in range(0, min(len(ids), max_tokens) - 1, CONTEXT):
        window = ids[start : start + CONTEXT + 1]
        logits = model(window[None, :-1]).logits[0].float()
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
        count += len(window) - 1
    return math.exp(total / count)


def build_model(recipe: Recipe, vocab_size: int) -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.hidden_size // HEAD_SIZE,
        intermediate_size=4 * recipe.hidden_size,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    return GPTNeoXForCausalLM(config)


def schedule(progress: float) -> float:
    """Share of the peak learning rate: 3 % warm-up, constant, linear to zero over the last 40 %."""
    return min(1.0, progress / 0.03, (1 - progress) / 0.4)


def batches(ids: torch.Tensor, num_tokens: int, batch_tokens: int, seed: int) -> list[torch.Tensor]:
    """Random crops, `batch_tokens` a step: short sequences first, context-long ones at the end."""
    generator = torch.Generator().manual_seed(seed)
    num_steps = num_tokens // batch_tokens
    steps = []
    for step in range(num_steps):
        length = CONTEXT if step >= num_steps * (1 - LONG_SHARE) else SHORT
        starts = torch.randint(len(ids) - length - 1, (batch_tokens // length, 1), generator=generator)
        steps.append(starts + torch.arange(length + 1))
    return steps


@torch.inference_mode()
def written_by(teacher: GPTNeoXForCausalLM, ids: torch.Tensor, num_tokens: int, seed: int) -> torch.Tensor:
    """What the teacher writes after prompts of the training text, sampled, as one row of token ids."""
    torch.manual_seed(seed)
    rows: list[torch.Tensor] = []
    while sum(row.numel() for row in rows) < num_tokens:
        starts = torch.randint(len(ids) - WRITTEN_PROMPT, (128, 1))
        prompts = ids[starts + torch.arange(WRITTEN_PROMPT)]
        made = teacher.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=WRITTEN_LENGTH,
            min_new_tokens=WRITTEN_LENGTH,
            do_sample=True,
            temperature=WRITTEN_AT,
            top_k=0,
            cache_implementation="static",
            disable_compile=True,
            pad_token_id=0,
        )
        rows.append(made.flatten())
        print(f"  the teacher wrote {sum(row.numel() for row in rows)} tokens", flush=True)
    return torch.cat(rows)


def agreement_loss(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) a token, in nats."""
    student = F.log_softmax(logits.flatten(0, 1).float(), -1)
    taught = F.log_softmax(teacher_logits.flatten(0, 1).float(), -1)
    return F.kl_div(student, taught, reduction="batchmean", log_target=True)


def train(
    recipe: Recipe,
    ids: torch.Tensor,
    vocab_size: int,
    args: argparse.Namespace,
    *,
    teacher: GPTNeoXForCausalLM | None = None,
    written: torch.Tensor | None = None,
) -> GPTNeoXForCausalLM:
    """From random weights, on the text alone or for agreement with a teacher."""
    torch.manual_seed(args.seed)
    model = build_model(recipe, vocab_size).train()
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in n)]
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.learning_rate * 10, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    steps = batches(ids, args.tokens or recipe.num_tokens, args.batch_tokens, args.seed)
    start = time.perf_counter()
    for step, rows in enumerate(steps):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * schedule((step + 1) / len(steps))
        # every other step on what the teacher wrote, whose rows are crops of one length
        tokens = ids[rows] if written is None or step % 2 else written[rows % (len(written) - rows.shape[1])]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(tokens[:, :-1], use_cache=False).logits
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(tokens[:, :-1], use_cache=False).logits
        if teacher is None:
            loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        else:
            loss = agreement_loss(logits, taught)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step + 1 == len(steps):
            seconds = time.perf_counter() - start
            rate = (step + 1) * args.batch_tokens / seconds
            print(
                f"  step {step + 1}/{len(steps)} loss {loss.item():.3f} {rate:.0f} tokens/s {seconds:.0f} s",
                flush=True,
            )
    return model.eval()


def fingerprint(texts: list[str]) -> dict[str, object]:
    data = END_OF_TEXT.join(texts).encode()
    return {"num_texts": len(texts), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", type=Path, action="append", default=[], help="a training text file; repeatable"
    )
    parser.add_argument(
        "--held-out", type=Path, action="append", default=[], help="an evaluation text file; repeatable"
    )
    parser.add_argument("--output", type=Path, default=Path("src/bitdraft/demo"))
    parser.add_argument(
        "--only", choices=list(RECIPES), action="append", help="train this one only; repeatable"
    )
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--tokens", type=int, help="training tokens instead of the recipe's")
    parser.add_argument(
        "--written-tokens", type=int, default=WRITTEN_TOKENS, help="of the teacher, for drafts"
    )
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _tokenizer(args: argparse.Namespace, texts: list[str]) -> PreTrainedTokenizerFast:
    """The target's where it stays as it is, so that all three share one."""
    if "target" in (args.only or RECIPES):
        return train_tokenizer(texts, args.vocab_size)
    return PreTrainedTokenizerFast.from_pretrained(args.output / "target")


def main() -> None:
    args = parse_args()
    sources = {"stdlib": stdlib_training_text(), **{p.name: file_text(p) for p in args.text}}
    held_out = {"stdlib": [read_stdlib_module(name) for name in STDLIB_HELD_OUT]}
    held_out |= {p.name: [p.read_text(encoding="utf-8")] for p in args.held_out}
    texts = [text for group in sources.values() for text in group]
    tokenizer = _tokenizer(args, texts)
    train_ids = encode(tokenizer, texts)
    eval_ids = {name: encode(tokenizer, group) for name, group in held_out.items()}
    sizes = {name: fingerprint(group)["bytes"] for name, group in sources.items()}
    print(f"{len(train_ids)} training tokens from {sizes} bytes")
    written: torch.Tensor | None = None
    for name in args.only or RECIPES:
        recipe = RECIPES[name]
        print(name, recipe, flush=True)
        start = time.perf_counter()
        teacher = None
        if recipe.teacher is not None:
            teacher = GPTNeoXForCausalLM.from_pretrained(args.output / recipe.teacher).eval()
            if written is None:
                written = written_by(teacher, train_ids, args.written_tokens, args.seed)
        model = train(
            recipe, train_ids, args.vocab_size, args, teacher=teacher, written=written if teacher else None
        )
        seconds = time.perf_counter() - start
        quality = {
            key: {"unigram_ppl": unigram_ppl(train_ids, ids, args.vocab_size), "ppl": model_ppl(model, ids)}
            for key, ids in eval_ids.items()
        }
        folder = args.output / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        record = {
            "recipe": asdict(recipe),
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "trained_tokens": args.tokens or recipe.num_tokens,
            "corpus_tokens": len(train_ids),
            "seconds": round(seconds),
            "seed": args.seed,
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "training_text": {key: fingerprint(group) for key, group in sources.items()},
            "held_out": {key: quality[key] | fingerprint(held_out[key]) for key in held_out},
        }
        (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        print(json.dumps(quality, indent=2), flush=True)


if __name__ == "__main__":
    main()
