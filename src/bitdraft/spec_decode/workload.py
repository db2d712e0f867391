"""What is measured: target, drafts and prompts, with every bad request found before anything loads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bitdraft.config import CAPABILITIES, NGRAM, SpecDecodeConfig
from bitdraft.config.backends import LLAMA_SERVER, VLLM
from bitdraft.errors import UserError
from bitdraft.external import OWN_ARGUMENTS
from bitdraft.external.programs import find_program
from bitdraft.formats import kv_cache
from bitdraft.inputs.checkpoints import Checkpoint, content_id, find_checkpoint
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.prompts import (
    Prompt,
    check_context,
    encoder_of,
    sample_of,
    select_prompts,
    text_record,
)
from bitdraft.inputs.tokenizers import check_token_ids, draft_tokenizer_problem, foreign_ids, load_tokenizer
from bitdraft.inputs.variants import (
    Variant,
    check_ids,
    check_llama_cpps_settings,
    check_variant,
    draft_format,
    refuse_other_engines,
)
from bitdraft.runs.cell import fingerprint
from bitdraft.schema.environment import TextRecord
from bitdraft.schema.findings import Finding, warning

DEMO_DRAFTS = ("demo/draft-small", "demo/draft-medium", NGRAM)
LONGEST_LABEL = 24
USUAL_CONTEXTS = (64, 256, 1024)
SLACK_TOKENS = 16
"""Behind a context, for what is drafted and verified there"""


@dataclass(frozen=True)
class DraftSource:
    """A draft by the name it has in tables and charts, and as it was asked for; prompt lookup has no
    checkpoint."""

    label: str
    asked: str
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class Workload:
    target: Checkpoint
    drafts: tuple[DraftSource, ...]
    text: TextRecord
    prompts: list[Prompt]
    foreign: dict[str, tuple[int, ...]]
    warnings: tuple[Finding, ...]
    program: Path | None = None
    contexts: tuple[int, ...] = ()

    @cached_property
    def contents(self) -> dict[str, object]:
        """Hashes of checkpoints and text, as they are when this is asked first."""
        drafts = {d.label: content_id(d.checkpoint) if d.checkpoint else None for d in self.drafts}
        return {
            "checkpoint": content_id(self.target),
            "files": self.target.files_content,
            "drafts": drafts,
            "text": fingerprint([prompt.token_ids for prompt in self.prompts], 32),
        }

    def payload(self, config: SpecDecodeConfig) -> dict[str, Any]:
        """For a child process, which is given folders so that it needs no hub."""
        folders = {d.label: str(d.checkpoint.folder) if d.checkpoint else None for d in self.drafts}
        return {
            "config": config.model_dump(mode="json")
            | self.target.settings_here()
            | {"contexts": self.contexts},
            "drafts": folders,
            "prompts": [prompt.token_ids for prompt in self.prompts],
            "clusters": [prompt.cluster for prompt in self.prompts],
            "vocab_size": self.target.vocab_size,
            "foreign": self.foreign,
        }


def prepare(config: SpecDecodeConfig) -> Workload:
    """Resolve everything; raises `UserError`."""
    _check_settings(config)
    target = find_checkpoint(config)
    dataset = load_dataset(config)
    tokenizer = load_tokenizer(target, config)
    encoder = encoder_of(tokenizer, config.bos)
    prompts = select_prompts(dataset, config, encoder, config.seed)
    _check_batches(config, len(prompts))
    drafts = tuple(_find_draft(name, config) for name in _draft_names(config))
    _check_labels(drafts)
    models = [(draft, draft.checkpoint) for draft in drafts if draft.checkpoint is not None]
    sample = sample_of(dataset)
    check_variant(Variant(target, config.precision), "precision")
    check_ids(Variant(target, config.precision), tokenizer, sample)
    for name in config.pairs:
        check_variant(Variant(target, name), "pairs")
        check_ids(Variant(target, name), tokenizer, sample)
    check_context(prompts, config, config.max_new_tokens, target, "the target's")
    check_token_ids(max(max(prompt.token_ids) for prompt in prompts), target)
    foreign: dict[str, tuple[int, ...]] = {}
    in_use = [config.precision, *config.pairs]
    for draft, checkpoint in models:
        precision = draft_format(Variant(target, config.precision), checkpoint, config.draft_precision)
        in_use.append(precision)
        check_variant(Variant(checkpoint, precision), "draft_precision")
        for name in config.pairs:
            check_variant(Variant(checkpoint, name), "pairs")
        own = load_tokenizer(checkpoint, config, "drafts")
        problem = draft_tokenizer_problem(own, tokenizer, sample)
        if problem is not None:
            remedy = f"Choose a draft with the tokenizer of {config.model}, or ngram"
            raise UserError("drafts", draft.label, problem, remedy)
        foreign[draft.label] = foreign_ids(own, tokenizer)
        check_context(prompts, config, config.max_new_tokens, checkpoint, f"draft {draft.label}'s")
    check_llama_cpps_settings(config, in_use)
    refuse_other_engines(config.backend, in_use)
    program = find_program(config) if CAPABILITIES[config.backend].processes else None
    record = text_record(dataset, prompts, config, encoder)
    contexts = _contexts(config, [target, *(checkpoint for _, checkpoint in models)])
    warnings = _size_warnings(target, models)
    return Workload(target, drafts, record, prompts, foreign, warnings, program, contexts)


def _contexts(config: SpecDecodeConfig, checkpoints: Sequence[Checkpoint]) -> tuple[int, ...]:
    """Of the schedule's grid: those that were asked for, else the usual ones that all models have room
    for."""
    if not config.schedule:
        return ()
    most = min(one.context for one in checkpoints) - config.k[-1] - SLACK_TOKENS
    if config.contexts and config.contexts[-1] > most:
        problem = f"with K = {config.k[-1]} the models have room for {most} tokens"
        raise UserError("contexts", config.contexts[-1], problem, f"Use contexts up to {most}")
    usual = tuple(length for length in USUAL_CONTEXTS if length <= most)
    return config.contexts or usual or (max(1, most),)


def _check_settings(config: SpecDecodeConfig) -> None:
    for field in ("top_k", "top_p"):
        value = getattr(config, field)
        if value is not None and config.temperature == 0:
            problem = "means nothing for greedy decoding"
            raise UserError(field, value, problem, "Set --temperature above 0 or leave it out")
    longest = config.max_new_tokens - 2
    if config.k[-1] > longest:
        problem = (
            f"{config.max_new_tokens} new tokens never have room for {config.k[-1]} drafted ones "
            "(the first comes from the prefill, the last from the target)"
        )
        remedy = f"Use K up to {longest}, or " if longest > 0 else "Use "
        raise UserError("k", config.k[-1], problem, f"{remedy}--max-new-tokens {config.k[-1] + 2}")
    names = _draft_names(config)
    if config.draft_precision is not None and all(_parse(name)[1] == NGRAM for name in names):
        problem = "prompt lookup has no weights and so no precision"
        raise UserError("draft_precision", config.draft_precision, problem, "Leave it out")
    if config.synthetic_acceptance is not None:
        _check_synthetic(config, names)
    if config.batch_sizes[-1] > 1:
        _check_ways_to_batch(config)
    if config.contexts and not config.schedule:
        shown = ",".join(map(str, config.contexts))
        raise UserError("contexts", shown, "are of a schedule", "Leave it out, or add --schedule")
    _check_backend(config, names)
    if config.pairs:
        _check_pairs(config, names)
    elif config.kv_caches != (kv_cache.AUTO,):
        shown = ",".join(config.kv_caches)
        remedy = "Name some with --pairs, or use --kv-cache"
        raise UserError("kv_caches", shown, "are of pairs of formats", remedy)


def _check_pairs(config: SpecDecodeConfig, names: Sequence[str]) -> None:
    shown = ",".join(config.pairs)
    if config.temperature > 0:
        problem = "are compared on greedy texts"
        raise UserError("pairs", shown, problem, "Leave --temperature out")
    if all(_parse(name)[1] == NGRAM for name in names):
        problem = "prompt lookup has no weights and so no format"
        raise UserError("pairs", shown, problem, "Name a draft model with --draft")
    if config.random_weights:
        problem = "random weights agree with nothing"
        raise UserError("pairs", shown, problem, "Name a checkpoint")


def _check_backend(config: SpecDecodeConfig, names: Sequence[str]) -> None:
    can = CAPABILITIES[config.backend]
    _check_deployed(config)
    if config.execution != "auto" and not can.executions:
        problem = f"{config.backend} runs models in its own way"
        raise UserError("execution", config.execution, problem, "Use --backend native, or leave it out")
    if not can.prompt_lookup and any(_parse(name)[1] == NGRAM for name in names):
        problem = f"the prompt lookup of {config.backend} drafts up to K tokens, not K"
        raise UserError("drafts", NGRAM, problem, "Use --backend native, or a draft model")
    if config.plan and not can.costs:
        problem = "the plan needs the times of single steps, which only the native engine tells"
        raise UserError("backend", config.backend, problem, "Use --backend native, or leave --plan out")


def _refuse_own_arguments(config: SpecDecodeConfig) -> None:
    for word in shlex.split(config.engine_args):
        name = word.partition("=")[0]
        if name in OWN_ARGUMENTS[config.backend]:
            problem = f"has {name}, which bitdraft sets itself"
            raise UserError("engine_args", config.engine_args, problem, f"Leave {name} out")


def _check_deployed(config: SpecDecodeConfig) -> None:
    """Of engines in processes of their own, and what is only theirs."""
    can = CAPABILITIES[config.backend]
    if not can.processes:
        for name in ("engine_program", "engine_args", "one_at_a_time"):
            value = getattr(config, name)
            if value:
                problem = f"is of engines in processes of their own, not of {config.backend}"
                remedy = f"Leave it out, or use --backend {LLAMA_SERVER} or {VLLM}"
                raise UserError(name, value, problem, remedy)
        return
    _refuse_own_arguments(config)
    if config.random_weights:
        problem = f"{config.backend} reads checkpoints, and these weights are drawn"
        raise UserError("random_weights", "true", problem, "Name a checkpoint")
    if config.pairs:
        problem = "are replayed by the native engine"
        raise UserError("pairs", ",".join(config.pairs), problem, "Use --backend native")
    if config.backend == VLLM and config.draft_precision not in (None, config.precision):
        problem = "vLLM runs a draft in the target's precision"
        raise UserError("draft_precision", config.draft_precision, problem, "Leave it out")


def _check_synthetic(config: SpecDecodeConfig, names: Sequence[str]) -> None:
    field, value = "synthetic_acceptance", config.synthetic_acceptance
    if config.temperature > 0:
        problem = "is defined for greedy decoding: a sampled token is kept by chance already"
        raise UserError(field, value, problem, "Leave --temperature out")
    if not CAPABILITIES[config.backend].oracle_drafts:
        raise UserError(field, value, "needs the native engine", "Use --backend native")
    if any(_parse(name)[1] == NGRAM for name in names):
        problem = "is for draft models: prompt lookup has nothing to say where it finds nothing"
        raise UserError(field, value, problem, "Name draft models with --draft, without ngram")


def _check_ways_to_batch(config: SpecDecodeConfig) -> None:
    sizes = ",".join(map(str, config.batch_sizes))
    if not CAPABILITIES[config.backend].batches:
        problem = f"{config.backend} takes a draft model for one prompt alone"
        raise UserError("batch_sizes", sizes, problem, "Use --backend native, or --batch-size 1")
    if config.plan and not config.schedule:
        problem = "the plan predicts one prompt at a time"
        raise UserError("batch_sizes", sizes, problem, "Leave --plan out, or use --batch-size 1")
    if config.execution == "eager":
        problem = "eager execution decodes one prompt at a time"
        raise UserError("batch_sizes", sizes, problem, "Use --execution auto, or --batch-size 1")


def _check_batches(config: SpecDecodeConfig, num_prompts: int) -> None:
    largest = config.batch_sizes[-1]
    if largest > num_prompts and not config.schedule:
        problem = f"there are only {num_prompts} prompts to decode at once"
        remedy = f"Use --num-prompts {largest} (intervals take five times as many), or a smaller batch"
        raise UserError("batch_sizes", largest, problem, remedy)


def _draft_names(config: SpecDecodeConfig) -> Sequence[str]:
    if config.drafts is not None:
        return config.drafts
    if config.model.startswith("demo/"):
        with_lookup = CAPABILITIES[config.backend].prompt_lookup and config.synthetic_acceptance is None
        return DEMO_DRAFTS if with_lookup else DEMO_DRAFTS[:-1]
    remedy = "Name one or more with --draft: a smaller model of the same tokenizer, or ngram"
    raise UserError("drafts", "none", f"no draft is named for {config.model}", remedy)


def _parse(name: str) -> tuple[str, str]:
    """`LABEL=NAME` as (label, name); without a label the name's last part is one."""
    labelled = re.fullmatch(rf"([\w.+-]{{1,{LONGEST_LABEL}}})=(.+)", name)
    if labelled and not Path(name).exists():
        return labelled[1], labelled[2]
    label = name if name == NGRAM else Path(name).name or name
    if len(label) > LONGEST_LABEL:
        label = f"{label[: LONGEST_LABEL // 2 - 1]}…{label[-LONGEST_LABEL // 2 :]}"
    return label, name


def _find_draft(text: str, config: SpecDecodeConfig) -> DraftSource:
    label, name = _parse(text)
    if name == NGRAM:
        return DraftSource(label, text, None)
    own = config.model_copy(update={"model": name, "revision": None, "gguf": ()})
    return DraftSource(label, text, find_checkpoint(own, "drafts"))


def _check_labels(drafts: Sequence[DraftSource]) -> None:
    labels = [draft.label for draft in drafts]
    for label in labels:
        if labels.count(label) > 1:
            remedy = "Name each once, or tell them apart with --draft LABEL=NAME"
            raise UserError("drafts", label, "two drafts have this name", remedy)


def _size_warnings(
    target: Checkpoint, models: Sequence[tuple[DraftSource, Checkpoint]]
) -> tuple[Finding, ...]:
    """Shapes have nothing stored to compare."""

    def size(checkpoint: Checkpoint) -> int:
        return sum(checkpoint.stored_dtypes.values()) or checkpoint.stored_bytes

    return tuple(
        warning("spec.draft_size", draft.label, size=size(checkpoint), target=size(target))
        for draft, checkpoint in models
        if size(checkpoint) >= size(target) and not checkpoint.random_weights
    )
