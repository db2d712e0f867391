"""Whether two result files may be compared, and if not, why and what to measure again.

What one may want to compare (model, machine, versions, backend, …) is never a reason to refuse. Another
text, other prompts, lengths, sampling or protocol is: every ratio would be one of two workloads.
"""

from __future__ import annotations

from typing import Any

from bitdraft.compare.measured import Measurement
from bitdraft.config import PrecisionConfig, ServeBenchConfig, SpecDecodeConfig
from bitdraft.schema.comparison import Refusal, RowName
from bitdraft.schema.precision import PrecisionResult, ProtocolCard
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult

_COMMON = {
    "random_weights": "a shape's random weights stand for no checkpoint",
    "num_prompts": "prompts are compared in pairs",
    "max_new_tokens": "answers of other lengths have other speeds",
    "ignore_eos": "texts that end early have other speeds",
}
_SCORING = {
    "ppl_protocol": "perplexities of two protocols are two quantities",
    "ppl_window": "perplexities by other windows are two quantities",
    "ppl_max_tokens": "perplexities of two stretches of text are two quantities",
    "kld_on": "divergences on two kinds of text are two quantities",
}
_SWEEP = {
    "synthetic_acceptance": "stated acceptance is compared with the same stated acceptance alone",
    "precision": "rows are matched within a precision of the target",
    "temperature": "another sampling writes another text and accepts other drafts",
    "top_k": "another sampling writes another text and accepts other drafts",
    "top_p": "another sampling writes another text and accepts other drafts",
}
_SERVERS = {
    **{name: why for name, why in _COMMON.items() if name != "random_weights"},
    **{name: _SWEEP[name] for name in ("temperature", "top_k", "top_p")},
    "api": "completions and chats are other workloads",
    "rate": "another rate is another load",
}
REFUSED = frozenset({*_COMMON, *_SCORING, *_SWEEP, *_SERVERS})
"""Settings that have to be the same"""


def settings_of(result: Measurement) -> tuple[str, ...]:
    """Names of all settings that a run of this kind has."""
    return tuple(_kind(result).model_fields)


def setting(result: Measurement, name: str) -> Any:
    """As it was, or, in a file from before the setting existed, its default."""
    return getattr(result.config, name)


def _kind(
    result: Measurement,
) -> type[PrecisionConfig] | type[SpecDecodeConfig] | type[ServeBenchConfig]:
    if isinstance(result, ServingResult):
        return ServeBenchConfig
    return PrecisionConfig if isinstance(result, PrecisionResult) else SpecDecodeConfig


def was_asked(result: Measurement, name: RowName, like: Measurement) -> bool:
    """Whether a run was asked for this row, which is one of the run `like`."""
    if isinstance(result, PrecisionResult):
        return name.precision in result.config.precisions
    if isinstance(result, ServingResult):
        return name.precision in result.config.urls and name.batch_size in result.config.loads
    config, other = result.config, like.config
    if name.batch_size not in config.batch_sizes:
        return False
    if not name.k:
        return True
    is_same = isinstance(other, SpecDecodeConfig) and config.drafts == other.drafts
    only = config.only
    return is_same and name.k in config.k and (only is None or (name.draft, name.k) in only)


def refusal(source: str, a: Measurement, b: Measurement) -> Refusal | None:
    """The first reason not to compare two files of the same kind; None where there is none."""
    names = dict(_SERVERS if isinstance(a, ServingResult) else _COMMON)
    if isinstance(a, ServingResult):
        pass
    elif isinstance(a, SpecDecodeResult):
        names |= _SWEEP
    elif not setting(a, "random_weights"):
        names |= _SCORING
    for name, why in names.items():
        values = setting(a, name), setting(b, name)
        if values[0] != values[1]:
            return _refuse(source, name, values, why, f"Measure B again {_flag(name, values[0])}")
    return _other_text(source, a, b) or _other_prompts(source, a, b)


def _refuse(source: str, field: str, values: tuple[Any, Any], problem: str, remedy: str) -> Refusal:
    shown = ["not set" if value is None else str(value) for value in values]
    return Refusal(source=source, field=field, a=shown[0], b=shown[1], problem=problem, remedy=remedy)


def _flag(name: str, value: Any) -> str:
    if name == "ignore_eos":
        return "without --stop-at-eos" if value else "with --stop-at-eos"
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool) or value is None:
        return f"{'with' if value else 'without'} {flag}"
    return f"with {flag} {value}"


def _other_text(source: str, a: Measurement, b: Measurement) -> Refusal | None:
    if a.text.sha256 == b.text.sha256:
        return None
    names = a.text.dataset, b.text.dataset
    if names[0] != names[1]:
        own = names[0].startswith("file")
        remedy = "Measure both on the same file" if own else f"Measure B again with --dataset {names[0]}"
        return _refuse(source, "dataset", names, "rows of two texts are two workloads", remedy)
    short = a.text.sha256[:12], b.text.sha256[:12]
    remedy = "Measure both on the same file"
    if names[0] == "stdlib":
        remedy = (
            "The text is the standard library of the Python that runs: measure both with the same Python, "
            "or one text with --dataset file:PATH"
        )
    return _refuse(source, "text sha256", short, f"{names[0]} was another text", remedy)


def _other_prompts(source: str, a: Measurement, b: Measurement) -> Refusal | None:
    """A sweep that ended early has the first of the prompts that it was asked for; those are compared."""
    ids_a, ids_b = a.text.prompt_ids, b.text.prompt_ids
    num_both = min(len(ids_a), len(ids_b))
    tokens_a, tokens_b = (side.text.prompt_tokens[:num_both] for side in (a, b))
    if ids_a[:num_both] != ids_b[:num_both] or tokens_a != tokens_b:
        for name in ("max_prompt_tokens", "min_text_chars", "sample", "chat", "bos", "seed"):
            values = setting(a, name), setting(b, name)
            if values[0] != values[1]:
                remedy = f"Measure B again {_flag(name, values[0])}"
                return _refuse(source, name, values, "the prompts are others", remedy)
    for one, other in zip(ids_a, ids_b, strict=False):
        if one != other:
            remedy = "Measure both with the same version of bitdraft and the same flags"
            return _refuse(source, "prompts", (one, other), "prompts are compared in pairs", remedy)
    return None


def tokenizer_problem(a: Measurement, b: Measurement) -> str | None:
    """Why the two may not have the same tokenizer; None where all that is known says that they do. Lengths
    that were cut to a limit prove nothing: then name or vocabulary has to be the same, too."""
    if any(one != other for one, other in zip(*(side.text.prompt_tokens for side in (a, b)), strict=False)):
        return "another tokenizer: the same prompts are of other lengths in tokens"
    one, other = _card(a), _card(b)
    if one is not None and other is not None:
        scored = one.num_scored_tokens, other.num_scored_tokens
        if scored[0] != scored[1]:
            return f"another tokenizer: the text is {scored[0]} scored tokens in A, {scored[1]} in B"
        if all(card.protocol in ("sliding", "lm-eval") and not card.truncated for card in (one, other)):
            return None
    sizes = a.model.vocab_size, b.model.vocab_size
    if a.model.name == b.model.name or (sizes[0] is not None and sizes[0] == sizes[1]):
        return None
    return f"nothing shows that the tokenizers are the same (vocabularies of {sizes[0]} and {sizes[1]})"


def _card(result: Measurement) -> ProtocolCard | None:
    """The protocol card of the first row that was scored."""
    if not isinstance(result, PrecisionResult):
        return None
    return next((row.quality.protocol for row in result.rows if row.quality.protocol is not None), None)
