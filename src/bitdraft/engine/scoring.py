"""Teacher-forced log-probabilities of given tokens, with logits a piece at a time.

Shapes: B windows at once, N tokens of a window (or scored tokens of several), T tokens of a chunk, V
vocabulary, C ids of a slice of it, D hidden size.

Where a model's logits are its output embedding of its hidden states, windows go through the layers once,
without a cache: short ones of about the same length together, padded on the right, which nothing before sees.
Their scored positions alone go through the embedding, in slices of the vocabulary whose sums are kept. Other
models go through the cache a window and a chunk at a time. Either way memory for logits is bounded, whatever
window and vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch.nn import functional as F

from bitdraft.engine.narrow import narrow_mlps
from bitdraft.engine.runner import Runner, adapts_to_length
from bitdraft.engine.slices import Sums, slices_of
from bitdraft.engine.token_model import TokenModel
from bitdraft.errors import NonFiniteNumbers, Unsupported
from bitdraft.schema.records import Overflow

MOST_WORKERS = 4
TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16_384}
"""Of a forward of several windows: more make nothing faster (docs/benchmarks)"""
ACTIVATION_BYTES = {"cpu": 96 * 2**20, "cuda": 2**30}
"""What several windows under way may take together; a single one takes what it takes"""

Window = tuple[Sequence[int], int]
"""Token ids, and the index (≥ 1) of the first that is scored"""
Scored = tuple[torch.Tensor, torch.Tensor]
"""Natural-log probabilities and argmax ids of a window's scored tokens, on the host"""
Found = TypeVar("Found")
Result = TypeVar("Result")


class NonFiniteLogits(NonFiniteNumbers):
    """Logits that are not all finite; `position` is the first bad one's place in the window, and `index` the
    window's among several."""

    def __init__(self, position: int, index: int = 0) -> None:
        super().__init__(f"non-finite logits at position {position}")
        self.position, self.index = position, index


def window_logits(
    runner: TokenModel,
    token_ids: Sequence[int],
    first_scored: int,
    chunk_tokens: int,
    beside: Sequence[TokenModel] = (),
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(logits_TV in float32, targets_T) for the tokens from index `first_scored` (≥ 1) to the end, which the
    next forward may overwrite. Models that are looked at `beside` each other are cut in the same places.

    Raises `NonFiniteLogits`.
    """
    assert 1 <= first_scored < len(token_ids)
    tokens_BT = runner.to_device(token_ids)
    is_plain = _are_plain([runner, *beside], token_ids)
    cut: Any = _plain_chunks if is_plain else _cached_chunks
    for logits_TV, end in cut(runner, tokens_BT[:, :-1], first_scored - 1, chunk_tokens):
        start = end - logits_TV.shape[0]
        # two passes over the logits are cheaper than one isfinite
        finite_T = (logits_TV.amin(-1) - logits_TV.amax(-1)).isfinite()
        if not finite_T.all():
            raise NonFiniteLogits(start + int((~finite_T).nonzero()[0]))
        yield logits_TV.float(), tokens_BT[0, start + 1 : end + 1]


def _are_plain(runners: Sequence[TokenModel], token_ids: Sequence[int]) -> bool:
    """Whether the logits of all of them are output embeddings of hidden states."""
    return all(
        isinstance(runner, Runner) and runner.head_is_plain(runner.to_device(token_ids)) for runner in runners
    )


def _plain_chunks(
    runner: Runner, tokens_BN: torch.Tensor, first: int, chunk_tokens: int
) -> Iterator[tuple[torch.Tensor, int]]:
    """(logits_TV, end of the chunk) for positions `first` to N, from one forward."""
    states_ND = runner.hidden_states(tokens_BN)[0]
    for start in range(first, len(states_ND), chunk_tokens):
        states_TD = states_ND[start : start + chunk_tokens]
        yield runner.head(states_TD), start + len(states_TD)


def _cached_chunks(
    runner: TokenModel, tokens_BN: torch.Tensor, first: int, chunk_tokens: int
) -> Iterator[tuple[torch.Tensor, int]]:
    """The same from a forward a chunk through the cache."""
    num_tokens = tokens_BN.shape[1]
    runner.start(num_tokens)
    for start in range(0, num_tokens, chunk_tokens):
        end = min(start + chunk_tokens, num_tokens)
        num_scored = min(end - start, end - first)
        logits_TV = runner.forward(tokens_BN[:, start:end], max(1, num_scored))[0]
        if num_scored > 0:
            yield logits_TV, end


def log_prob_of(logits_TV: torch.Tensor, targets_T: torch.Tensor) -> torch.Tensor:
    """Natural-log probability of each target."""
    return -F.cross_entropy(logits_TV, targets_T, reduction="none")


def score_window(
    runner: TokenModel, token_ids: Sequence[int], first_scored: int, chunk_tokens: int
) -> Scored:
    """One window's scores. Raises `NonFiniteLogits`."""
    ((_, scored),) = score_windows(runner, [(token_ids, first_scored)], chunk_tokens)
    return scored


def score_windows(
    runner: TokenModel,
    windows: Sequence[Window],
    chunk_tokens: int,
    done: Collection[int] = (),
) -> Iterator[tuple[int, Scored]]:
    """(index, scores) of every window, batch by batch; those that are `done` already are left out. Which
    windows go together depends on all of them, so that who goes on behind an interruption rounds as before
    it.

    On a CPU several batches are under way at once, each on its share of the threads: a batch's small
    operations don't fill the cores. Raises `NonFiniteLogits` with the first bad window of a batch.
    """

    def score(some: Sequence[Window], plain: bool) -> list[Scored]:
        if plain and isinstance(runner, Runner):
            return _score_together(runner, some, chunk_tokens)
        return [_score_cached(runner, window, chunk_tokens) for window in some]

    return _in_batches([runner], windows, done, score)


def kl_of_windows(
    reference: TokenModel,
    candidate: TokenModel,
    windows: Sequence[Window],
    chunk_tokens: int,
    done: Collection[int] = (),
) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, KL(reference ‖ candidate) in nats at every scored position, on the host) of windows that go
    through both models in one pass, as `score_windows`."""

    def compare(some: Sequence[Window], plain: bool) -> list[torch.Tensor]:
        if plain and isinstance(reference, Runner) and isinstance(candidate, Runner):
            return _kl_together(reference, candidate, some, chunk_tokens)
        return [_kl_cached(reference, candidate, window, chunk_tokens) for window in some]

    return _in_batches([reference, candidate], windows, done, compare)


def _in_batches(
    runners: Sequence[TokenModel],
    windows: Sequence[Window],
    done: Collection[int],
    work: Callable[[Sequence[Window], bool], list[Found]],
) -> Iterator[tuple[int, Found]]:
    """(index, what was found) of every window that is left. `work` is told whether all logits are output
    embeddings of hidden states."""
    if not windows:
        return
    with torch.inference_mode():
        plain = _are_plain(runners, windows[0][0])
    together = plain and not any(adapts_to_length(runner.model) for runner in runners)
    num_bytes = sum(map(_activation_bytes, runners)) if together else 1
    device = runners[0].device.type
    kind = device if device in TOKENS_AT_ONCE else "cpu"
    most = min(TOKENS_AT_ONCE[kind], ACTIVATION_BYTES[kind] // num_bytes) if together else 0
    batches = batches_of([len(ids) for ids, _ in windows], most)
    left = [batch for batch in batches if not {*batch} <= {*done}]

    def do(batch: list[int]) -> list[tuple[int, Found]]:
        try:
            with torch.inference_mode():
                found = work([windows[index] for index in batch], plain)
        except NonFiniteLogits as error:
            raise NonFiniteLogits(error.position, batch[error.index]) from error
        return [(index, one) for index, one in zip(batch, found, strict=True) if index not in done]

    num_workers = 1
    if together and device == "cpu" and left:
        widest = max(len(batch) * max(len(windows[index][0]) for index in batch) for batch in left)
        fitting = ACTIVATION_BYTES["cpu"] // (widest * num_bytes)
        num_workers = max(1, min(torch.get_num_threads(), MOST_WORKERS, len(left), fitting))
    with ExitStack() as narrowed:
        for runner in runners if device == "cpu" and plain else ():
            narrowed.enter_context(narrow_mlps(runner.model))
        for found in _in_threads(do, left, num_workers):
            yield from found


def batches_of(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Places of windows that go through the layers together: about as long as each other, and with their
    padding no more than so many tokens, or alone. In the order of their first."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        # the first of a batch is its longest
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= most_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return sorted((sorted(batch) for batch in batches), key=lambda batch: batch[0])


def _activation_bytes(runner: TokenModel) -> int:
    """Of a token within a layer, about: what an MLP makes, twice, and what else stands beside it."""
    config = runner.model.config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 0) or 1024)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", None)
    inner = inner if isinstance(inner, int) else 4 * hidden
    return (2 * inner + 8 * hidden) * runner.dtype.itemsize


def _in_threads(
    work: Callable[[list[int]], Result], batches: list[list[int]], num_workers: int
) -> Iterator[Result]:
    """In order. Each worker has its share of the threads."""
    if num_workers < 2:
        yield from map(work, batches)
        return
    num_threads = torch.get_num_threads()
    share = num_threads // num_workers
    torch.set_num_threads(share)
    pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(share,))
    try:
        yield from pool.map(work, batches)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


def _score_together(runner: Runner, windows: Sequence[Window], chunk_tokens: int) -> list[Scored]:
    states_ND, targets_N = _scored_states(runner, windows)
    sums = Sums(targets_N)
    for rows, start, (logits_TC,) in slices_of([(runner, states_ND)], chunk_tokens):
        sums.take(rows, start, logits_TC)
    _refuse_infinities([sums], windows)
    lengths = [len(ids) - first for ids, first in windows]
    columns = (sums.log_prob_N.float().cpu(), sums.top_N.cpu())
    return [*zip(*(torch.split(column, lengths) for column in columns), strict=True)]


def _score_cached(runner: TokenModel, window: Window, chunk_tokens: int) -> Scored:
    log_probs, tops = [], []
    for logits_TV, targets_T in window_logits(runner, *window, chunk_tokens):
        log_probs.append(log_prob_of(logits_TV, targets_T))
        tops.append(logits_TV.argmax(-1))
    return torch.cat(log_probs).cpu(), torch.cat(tops).cpu()


def _scored_states(runner: Runner, windows: Sequence[Window]) -> tuple[torch.Tensor, torch.Tensor]:
    """(hidden states N × D, the tokens that follow) of all scored positions, one window behind the other."""
    width = max(len(ids) for ids, _ in windows) - 1
    tokens_BN = torch.tensor([[*ids[:-1]] + [0] * (width + 1 - len(ids)) for ids, _ in windows])
    states_BND = runner.hidden_states(tokens_BN.to(runner.device))
    parts = [states_BND[row, first - 1 : len(ids) - 1] for row, (ids, first) in enumerate(windows)]
    targets = [token_id for ids, first in windows for token_id in ids[first:]]
    return parts[0] if len(parts) == 1 else torch.cat(parts), torch.tensor(targets, device=runner.device)


def _refuse_infinities(sums: Sequence[Sums], windows: Sequence[Window]) -> None:
    bad = (~torch.stack([one.is_finite_N for one in sums]).all(0)).nonzero()
    if not len(bad):
        return
    place = int(bad[0])
    for index, (ids, first) in enumerate(windows):
        if place < len(ids) - first:
            raise NonFiniteLogits(first - 1 + place, index)
        place -= len(ids) - first


def _kl_together(
    reference: Runner, candidate: Runner, windows: Sequence[Window], chunk_tokens: int
) -> list[torch.Tensor]:
    runners = (reference, candidate)
    states = [_scored_states(runner, windows) for runner in runners]
    sums = [Sums(targets_N) for _, targets_N in states]
    apart_N = torch.zeros_like(sums[0].total_N)
    models = [(runner, states_ND) for runner, (states_ND, _) in zip(runners, states, strict=True)]
    for rows, start, (p_TC, q_TC) in slices_of(models, chunk_tokens):
        difference_TC = p_TC - q_TC.to(p_TC.device)
        above_TC, scale_T = sums[0].take(rows, start, p_TC)
        sums[1].take(rows, start, q_TC)
        apart_N[rows] = apart_N[rows] * scale_T + (above_TC * difference_TC).sum(-1)
    _refuse_infinities(sums, windows)
    kl_N = apart_N / sums[0].total_N - (sums[0].log_total_N - sums[1].log_total_N)
    lengths = [len(ids) - first for ids, first in windows]
    return [*torch.split(kl_N.clamp_min(0).float().cpu(), lengths)]


def _kl_cached(
    reference: TokenModel, candidate: TokenModel, window: Window, chunk_tokens: int
) -> torch.Tensor:
    pairs = zip(
        window_logits(reference, *window, chunk_tokens, (candidate,)),
        window_logits(candidate, *window, chunk_tokens, (reference,)),
        strict=True,
    )
    found = [kl_of_logits(reference_TV, candidate_TV) for (reference_TV, _), (candidate_TV, _) in pairs]
    return torch.cat(found).clamp_min(0).cpu()


def kl_of_logits(reference_TV: torch.Tensor, candidate_TV: torch.Tensor) -> torch.Tensor:
    """KL(reference ‖ candidate) in nats at every position; rounding may take it just below zero. Raises
    `Unsupported` for vocabularies of two sizes."""
    sizes = reference_TV.shape[-1], candidate_TV.shape[-1]
    if sizes[0] != sizes[1]:
        raise Unsupported(f"its output has {sizes[1]} entries, the reference's {sizes[0]}")
    log_p_TV, log_q_TV = reference_TV.log_softmax(-1), candidate_TV.log_softmax(-1)
    return (log_p_TV.exp() * (log_p_TV - log_q_TV)).sum(-1)


@torch.inference_mode()
def locate_overflow(
    runner: TokenModel, token_ids: Sequence[int], first_scored: int, chunk_tokens: int, window: int
) -> Overflow:
    """Run a window again and name the first module, in execution order, whose output is not finite."""
    found: list[tuple[str, int]] = []

    def watch(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if found or not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
                return
            bad = ~tensor.isfinite()
            if tensor.ndim >= 3 and bad.any():
                tokens = bad[0].flatten(1).any(-1).nonzero()
                found.append((name, runner.length + int(tokens[0])))

        return hook

    modules = runner.model.named_modules() if isinstance(runner.model, torch.nn.Module) else ()
    hooks = [module.register_forward_hook(watch(name)) for name, module in modules if name]
    try:
        for _ in window_logits(runner, token_ids, first_scored, chunk_tokens):
            pass
    except NonFiniteLogits as error:
        found.append(("logits", error.position))
    finally:
        for handle in hooks:
            handle.remove()
    layer, position = found[0]
    return Overflow(layer=layer, window=window, position=position)
