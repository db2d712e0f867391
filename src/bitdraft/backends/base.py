"""The two kinds of backend, and what one can.

A *token model* gives logits for tokens over a cache that can be rolled back: our own loops, the replay,
costs, quality and the lossless check work on it. An *engine* takes requests and returns records, with counts
of its own. What an engine can beyond that is said by its `Capabilities`, and nothing asks for its class.

The native engine decodes over token models: `engine.runner.Runner` makes one of a transformers model,
`backends.llama_cpp.LlamaRunner` one of a GGUF model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bitdraft.config import Capabilities, DecodingConfig, Execution, SamplingConfig
from bitdraft.engine.cpu.products import ProductChoices
from bitdraft.engine.token_model import TokenModel
from bitdraft.engine.vocabulary import DraftVocabulary, num_ids
from bitdraft.schema.records import Generation

GREEDY = SamplingConfig()


class UnexpectedK(Exception):
    """The realised number of drafted tokens isn't the one that was asked for."""


def check_k(run: Generation, k: int) -> None:
    """Raise `UnexpectedK` where a step that nothing cut short drafted more or fewer than K tokens,
    as an engine does that chooses K by itself."""
    for index, step in enumerate(run.steps):
        if step.num_drafted != k and not step.truncated:
            raise UnexpectedK(f"step {index} drafted {step.num_drafted} tokens where K = {k}")


@dataclass(frozen=True)
class EngineSetup:
    """What an engine is made of. A draft that is None is prompt lookup; `drafts` holds the models by their
    labels, and `foreign` the ids that mean another token to one of them. `capacity` is the longest text to
    come, in tokens, if that is known. `choices` are which products read which weights on a CPU."""

    target: Any
    drafts: Mapping[str, Any | None] = field(default_factory=dict)
    sampling: SamplingConfig = GREEDY
    execution: Execution = "auto"
    capacity: int = 0
    choices: ProductChoices = field(default_factory=ProductChoices)
    foreign: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def vocabulary(self, draft: str | None) -> DraftVocabulary | None:
        """A draft model's, in the target's ids; None for the target."""
        if draft is None:
            return None
        return DraftVocabulary(self.drafts[draft], num_ids(self.target), self.foreign.get(draft, ()))


class Engine:
    """Decodes one prompt after another, with any of its drafts at any K. Subclasses say what more they
    can."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    fallback_reason: str | None = None
    """Why models are not run in the way that was asked for; None where they are."""
    no_batches_reason: str | None = None
    """Why several prompts can't be decoded at once, where that is no matter of how models are run."""

    def prepare(self, prompt: Sequence[int], config: DecodingConfig) -> None:
        """Take a prompt, for all the runs that follow."""
        raise NotImplementedError

    def decode(
        self, config: DecodingConfig, draft: str | None, k: int, seed: int, oracle_ids: Sequence[int] = ()
    ) -> Generation:
        """One run of the prepared prompt; K = 0 where no draft is named. `oracle_ids` are output tokens that
        a draft model is made to say (`oracle_drafts`). Raises `NonFiniteDecoding`."""
        raise NotImplementedError

    def generate(self, prompt: Sequence[int], config: DecodingConfig) -> Generation:
        """Decode a prompt without a draft; that numbers are not finite is no error here: the speed of a
        format that overflows is still its speed."""
        self.prepare(prompt, config)
        return self.decode(config, None, 0, 0)

    def execution(self, draft: str | None) -> dict[str, Any]:
        """How the forwards of the target, or of a draft that is a model, are run (`execution`), and the
        seconds that preparing them took (`preparation_s`)."""
        return {"execution": "eager"}

    def decisions(self) -> dict[str, Any]:
        """What this process has decided by timing (`mode`, `products`): another that goes on with its work
        decides alike."""
        return {}

    def runner(self, draft: str | None) -> TokenModel:
        """The token model of the target, or of a draft that is a model (`token_models`)."""
        raise NotImplementedError

    def prepare_batch(self, prompts: Sequence[Sequence[int]], config: DecodingConfig) -> None:
        """Take prompts that are decoded at once (`batches`)."""
        raise NotImplementedError

    def decode_batch(
        self,
        config: DecodingConfig,
        draft: str | None,
        k: int,
        seeds: Sequence[int],
        oracle_ids: Sequence[Sequence[int]] = (),
    ) -> list[Generation]:
        """One run of the prepared prompts, a record and a seed for each (`batches`)."""
        raise NotImplementedError

    def kv_bytes_per_token(self, draft: str | None) -> int:
        """Bytes that one token takes in the cache of the target or of a draft (`costs`)."""
        raise NotImplementedError

    def prefill_seconds(self, draft: str | None) -> float:
        """What the prepared prompt's prefill took, in the target or in a draft (`costs`)."""
        raise NotImplementedError

    def draft_seconds(self, draft: str, texts: Sequence[list[int]], num_tokens: int) -> float:
        """What drafting `num_tokens` behind each text takes, which begin with the prepared prompts
        (`costs`)."""
        raise NotImplementedError

    def verify_seconds(self, texts: Sequence[list[int]], num_drafted: int) -> float:
        """What the target's forward over each text's last token and `num_drafted` behind it takes
        (`costs`)."""
        raise NotImplementedError
