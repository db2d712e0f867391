"""lm-evaluation-harness in this process: rolling log-likelihoods of documents, and its figures of them."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from bitdraft.config import ModelConfig, TextConfig
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import STDLIB_HELD_OUT, Dataset, load_dataset, read_stdlib_module
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.windows import plan_scoring
from bitdraft.metrics.quality import text_figures
from peers_common import SCORED_MODULES, TARGET, Agreement, blocks_of, model_of, numbers

TOLERANCE = 1e-4
NUM_ROWS = 600  # of WikiText-2, where its files are at hand
_NAMES = {"word_ppl": "word_perplexity", "byte_ppl": "byte_perplexity", "bits_per_byte": "bits_per_byte"}


def version() -> str:
    return f"lm-evaluation-harness {importlib.metadata.version('lm-eval')}"


def agree() -> list[Agreement]:
    config = ModelConfig(model=TARGET)
    tokenizer = load_tokenizer(find_checkpoint(config), config)
    model = model_of(TARGET)
    found = []
    for name, dataset in _texts().items():
        ours, theirs = _ours(model, tokenizer, dataset), _theirs(model, tokenizer, dataset)
        found += [numbers(f"{_NAMES[key]}, {name}", ours[key], theirs[key], TOLERANCE) for key in _NAMES]
    return found


def _texts() -> dict[str, Dataset]:
    modules = (*SCORED_MODULES, "argparse.py")
    assert {*SCORED_MODULES} <= {*STDLIB_HELD_OUT}
    rows = (*map(read_stdlib_module, SCORED_MODULES), read_stdlib_module("argparse.py")[:9000])
    found = {"standard library": Dataset("stdlib", rows, modules, "test")}
    root = os.environ.get("BITDRAFT_DATA_ROOT")
    if root:
        whole = load_dataset(TextConfig(dataset="wikitext", data_root=Path(root)))
        rows = tuple(row for row in whole.rows if row.strip())[:NUM_ROWS]
        found[f"WikiText-2, {NUM_ROWS} rows"] = Dataset(
            "wikitext", rows, tuple(map(str, range(NUM_ROWS))), "test"
        )
    return found


def _ours(model: Any, tokenizer: Any, dataset: Dataset) -> dict[str, float]:
    encode = text_encoder(tokenizer)
    plan = plan_scoring(dataset, encode, "lm-eval", context=2048, prefix=tokenizer.bos_token_id)
    assert plan.num_words is not None
    assert plan.num_bytes is not None
    figures = text_figures(blocks_of(model, plan), plan.num_words, plan.num_bytes)
    return {name: figure.value for name, figure in figures.items()}


def _theirs(model: Any, tokenizer: Any, dataset: Dataset) -> dict[str, float]:
    """By the harness's functions for its task `wikitext`: weights of documents and means over them."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext.preprocess_wikitext import process_results

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=2048, device="cpu")
    requests = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(row,), idx=index)
        for index, row in enumerate(dataset.rows)
    ]
    found = harness.loglikelihood_rolling(requests, disable_tqdm=True)
    items = [process_results({"page": row}, (value,)) for row, value in zip(dataset.rows, found, strict=True)]
    means = {"bits_per_byte": bits_per_byte}
    return {
        key: float(means.get(name, weighted_perplexity)([item[name] for item in items]))
        for key, name in _NAMES.items()
    }
