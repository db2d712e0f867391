"""Run both modules in the order that answers the question soonest: all precisions, then plans, then only the
contenders. Each is a run of its own below this one; what was decided between them is journalled, so that an
interrupted search goes on as it had begun."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from bitdraft import formats
from bitdraft.config import (
    NGRAM,
    PrecisionConfig,
    RecommendConfig,
    SpecDecodeConfig,
    make_config,
)
from bitdraft.config.running import RunOptions
from bitdraft.errors import Interrupted, UserError
from bitdraft.formats import kv_cache
from bitdraft.formats.gguf import LLAMA_CPP
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.precision import evaluate as precision_module
from bitdraft.recommend import budget
from bitdraft.recommend.choose import by_pair, contenders, mixed_could_pay
from bitdraft.recommend.decisions import Decisions
from bitdraft.recommend.found import Found, precision_verdict
from bitdraft.recommend.options import Prediction
from bitdraft.recommend.record import build
from bitdraft.recommend.snippets import snippets_of
from bitdraft.runs.cell import Cell
from bitdraft.runs.conduct import Conduct, open_run
from bitdraft.runs.deadline import alarm_after
from bitdraft.schema.findings import Finding, Value, of_code, reason, skipped
from bitdraft.schema.naming import Pair, draft_name, pair_folder, pair_name
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation, Stage
from bitdraft.schema.spec_decode import SpecDecodeResult
from bitdraft.spec_decode import evaluate as spec_decode_module
from bitdraft.spec_decode.workload import Workload, prepare

Progress = Callable[[str, str, int, int], None]
"""(what is measured, the module's stage, done, total)"""

_SHARED = (
    *("model", "revision", "allow_pickle", "trust_remote_code", "seed", "device"),
    *("tokenizer", "gguf", "kv_cache", "flash_attention", "threads"),
    *("dataset", "data_root", "num_prompts", "min_text_chars", "max_prompt_tokens"),
    *("sample", "chat", "bos"),
    *("max_new_tokens", "ignore_eos", "execution"),
)
_QUALITY = (
    "ppl_protocol",
    "ppl_window",
    "ppl_max_tokens",
    "kl_max_tokens",
    "kld_on",
    "max_ppl_increase",
    "rounds",
)
CONCLUDING_S = 5.0
"""Of a budget, what the answer and its files take"""
_DRAFTING = ("temperature", "top_k", "top_p", "drafts", "k")


@dataclass(frozen=True)
class Publishers:
    """How the results of the three kinds get their sentences and files."""

    precision: precision_module.Publish
    spec_decode: spec_decode_module.Publish
    recommendation: Callable[[Recommendation, Path | None], tuple[Recommendation, Sequence[str]]]


def search_deployment(
    config: RecommendConfig, options: RunOptions, publishers: Publishers, on_progress: Progress | None = None
) -> Recommendation:
    """Say what to deploy, or go on with what is missing for it. See `bitdraft.recommend_deployment`."""
    if config.random_weights:
        problem = "what to deploy depends on quality and acceptance, which random weights don't have"
        raise UserError("random_weights", True, problem, "Name a trained checkpoint")
    if config.drafts is None and not config.model.startswith("demo/"):
        config = config.model_copy(update={"drafts": (NGRAM,)})
    report = on_progress or (lambda *_: None)
    report("everything", "prepare", 0, 1)
    with open_run("recommendation", config, options) as conduct:
        search = _Search(config, options, publishers, report)
        found: Recommendation = conduct.measure(search, publishers.recommendation)
        return found


class _Search:
    """One run, stage by stage; `found` is all that the result is made of."""

    def __init__(
        self, config: RecommendConfig, options: RunOptions, publishers: Publishers, report: Progress
    ) -> None:
        self.asked = self.config = config
        self.options, self.publishers, self.on_progress = options, publishers, report
        self.found = Found()
        # every bad request is found before anything is measured
        self.workload: Workload = prepare(self._spec_config(config.precisions[0], None, plan=True))
        self._process_s = 0.0
        self._start_s, self._before_s = monotonic(), 0.0
        self._now = "the precisions"

    # --- the run ------------------------------------------------------------------------------------

    def run(self, conduct: Conduct[Recommendation]) -> None:
        """All stages."""
        cell = Cell("search", "", {}, {"config": self.asked.model_dump(mode="json", exclude={"data_root"})})
        conduct.run.begin([cell])
        self._decisions = Decisions(conduct.run.journal(cell))
        self._before_s, self._folder = self._decisions.spent_s(), conduct.folder
        try:
            with alarm_after(self._left_s() - CONCLUDING_S):
                self._stages()
        except KeyboardInterrupt:
            if self._left_s() > CONCLUDING_S:
                self.found.skipped.append(skipped("run.interrupted"))
                raise
            # time is up: what was measured so far is what the answer rests on
            self.found.skipped.insert(0, skipped("budget.time", self._now))
        self._say_if_late()

    def has_numbers(self) -> bool:
        """Whether a precision was measured."""
        return self.found.precision is not None

    def result(self, *, is_complete: bool) -> Recommendation:
        """What is known so far."""
        found = build(self.asked, self.found, is_complete=is_complete)
        if not is_complete:
            return found  # nothing to deploy yet
        return found.model_copy(update={"snippets": snippets_of(found.choice, self.workload, self.config)})

    def _stages(self) -> None:
        self._precisions()
        result = self.found.precision
        assert result is not None
        precision = precision_verdict(result, self.config)[0].precision
        if precision is None:
            return
        allowed = [one.precision for one in self.found.plain(self.config) if not one.problems]
        for own in (precision, *(name for name in allowed if name != precision)):
            self._plan((own, None))
        self._mixed_plans()
        picked = contenders(self.found.predictions(), precision, self.config)
        if self.found.plans and not picked:
            self.found.notes.append(reason("recommend.none_near"))
        # within a budget what is most alike in all but the precision comes first
        for pair, wanted in sorted(by_pair(picked).items(), key=lambda item: item[0][1] is not None):
            self._sweep(pair, wanted)

    def report(self, what: str, stage: str, done: int, total: int) -> None:
        """Of a stage; beyond the budget it is ended here where no alarm can ring."""
        self._now = what
        if self._left_s() < 0:
            raise Interrupted(signal.SIGINT)
        self.on_progress(what, stage, done, total)

    # --- time ---------------------------------------------------------------------------------------

    def _spent_s(self) -> float:
        return self._before_s + monotonic() - self._start_s

    def _left_s(self) -> float:
        limit_s = self.config.budget_s
        return float("inf") if limit_s is None else limit_s - self._spent_s()

    def _say_if_late(self) -> None:
        if self._left_s() < -CONCLUDING_S:
            assert self.config.budget_s is not None
            figures: dict[str, Value] = {"budget_s": self.config.budget_s, "spent_s": self._spent_s()}
            self.found.notes.append(reason("recommend.late", **figures))

    def _note_stage(self, name: str, stage: str, what: str, start_s: float) -> None:
        seconds = self._decisions.seconds(name, monotonic() - start_s)
        self.found.stages.append(Stage(stage=stage, what=what, seconds=seconds))

    def _plain_s(self, precision: str) -> float:
        """A request's seconds without a draft."""
        row = next(row for row in self.found.finished() if row.precision == precision)
        return self.config.max_new_tokens / row.metrics["throughput_tok_s"].value

    # --- stages -------------------------------------------------------------------------------------

    def _precisions(self) -> None:
        fitted = self._decisions.of("precision", self._fitted)
        self._process_s = fitted["process_s"]
        self.config = self.config.model_copy(update={"num_prompts": fitted["num_prompts"]})
        self.found.skipped += [Finding.model_validate(cut) for cut in fitted["cuts"]]
        if fitted["pilot_s"] is not None:
            pilot = Stage(stage="pilot", what=fitted["pilot"], seconds=fitted["pilot_s"])
            self.found.stages.append(pilot)
        start_s = monotonic()
        settings = self._settings(_SHARED, _QUALITY) | fitted["settings"]
        settings |= self._of_llama_cpp(settings["precisions"])
        config = make_config(PrecisionConfig, settings)

        def report(precision: str, stage: str, done: int, total: int) -> None:
            self.report(f"precision {precision}".strip(), stage, done, total)

        with self._kept("precision", self._keep_precision):
            result = precision_module.measure_precision(
                config, self._options("precision"), self.publishers.precision, report
            )
        self.found.precision = result
        self._note_stage("precision", "precision", ", ".join(config.precisions), start_s)

    def _keep_precision(self, result: object) -> None:
        if isinstance(result, PrecisionResult):
            self.found.precision = result

    @contextmanager
    def _kept(self, name: str, keep: Callable[[object], None]) -> Iterator[None]:
        """What a stage had finished before it was ended is kept, and how long it took."""
        start_s = monotonic()
        try:
            yield
        except (Interrupted, UserError) as error:
            keep(error.result)
            self._decisions.broken(name, monotonic() - start_s)
            raise

    def _fitted(self) -> dict[str, Any]:
        """What of the precision module's work is done: all, or with a budget what fits into its share of it,
        by a pilot."""
        decided: dict[str, Any] = {
            "settings": {"precisions": list(self.config.precisions)},
            "num_prompts": self.config.num_prompts,
            "cuts": [],
            "process_s": 0.0,
            "pilot": "",
            "pilot_s": None,
        }
        if self.config.budget_s is None:
            return decided
        start_s = monotonic()
        reference = make_config(PrecisionConfig, {"precisions": self.config.precisions}).reference_precision
        tokens = [len(prompt.token_ids) for prompt in self.workload.prompts]
        row, load_s = self._pilot(reference)
        decided |= {"pilot": reference, "pilot_s": round(monotonic() - start_s, 1)}
        asked = self.config.ppl_max_tokens
        scored = min(asked or budget.MOST_SCORED, budget.MOST_SCORED)
        kl, rounds = self.config.kl_max_tokens, self.config.num_rounds
        work = budget.Work(self.config.precisions, len(tokens), scored, kl, rounds)
        cuts: list[Finding] = []
        if row.status == "ok":
            pace = budget.pace_of(row, tokens[0], load_s - start_s, monotonic() - load_s)
            decided["process_s"] = pace.process_s
            mean = sum(tokens) / len(tokens)
            plain_s, left_s = pace.run_s(mean, self.config.max_new_tokens), self._left_s()
            later_s = budget.plan_seconds(len(tokens), plain_s, pace.process_s)
            later_s += budget.sweep_seconds([1.0], len(tokens), plain_s, pace.process_s)
            within_s = max(left_s - later_s, budget.PRECISION_SHARE * left_s)
            work, cuts = budget.fit_precisions(work, pace, mean, self.config, reference, within_s)
        if scored != asked and not of_code(cuts, "budget.scored"):
            cuts.append(skipped("budget.scored", kept=scored, asked=asked))
        settings = {
            "precisions": list(work.precisions),
            "ppl_max_tokens": work.scored,
            "kl_max_tokens": work.compared,
            "rounds": work.rounds,
        }
        dumped = [cut.model_dump(mode="json") for cut in cuts]
        return decided | {"settings": settings, "num_prompts": work.num_prompts, "cuts": dumped}

    def _pilot(self, reference: str) -> tuple[Any, float]:
        """The reference's row on one prompt, and when its model began to load."""
        pilot = make_config(
            PrecisionConfig,
            self._settings(_SHARED, ("ppl_protocol",))
            | {
                "precisions": (reference,),
                "num_prompts": 1,
                "max_new_tokens": min(budget.PILOT_TOKENS, self.config.max_new_tokens),
                "ppl_max_tokens": budget.PILOT_SCORED,
                "kl_max_tokens": 0,
            }
            | self._of_llama_cpp((reference,)),
        )
        began_s: dict[str, float] = {}

        def report(_: str, stage: str, done: int, total: int) -> None:
            began_s.setdefault(stage, monotonic())
            self.report("pilot for the budget", stage, done, total)

        options = self.options.model_copy(update={"output": None, "root": None})
        result = precision_module.measure_precision(pilot, options, self.publishers.precision, report)
        return result.rows[0], began_s.get("load", monotonic())

    def _plan(self, pair: Pair, drafts: Sequence[str] | None = None) -> None:
        precision, other = pair
        what, name = pair_name(pair), f"plan-{pair_folder(pair)}"
        if not self._decisions.of(name, lambda: self._left_s() >= self._plan_seconds(pair)):
            self.found.skipped.append(skipped("budget.plan", what))
            return
        start_s = monotonic()
        config = self._spec_config(precision, other, plan=True, labels=drafts)
        plan = self._run(config, name, f"plan at {what}", lambda _: None)
        if plan.plan:
            self.found.plans[pair] = plan
        lost = [one for one in plan.findings if one.code in ("plan.out", "plan.not_predicted")]
        self.found.notes += [reason("recommend.plan_at", what, [one]) for one in lost]
        self._note_stage(name, "plan", what, start_s)

    def _plan_seconds(self, pair: Pair) -> float:
        """What has to be left for a plan: its own time for the first; for others as long as one took before,
        and a sweep's. Drafts at another precision come behind a sweep at each of the target's own."""
        precision, other = pair
        work = self.config.num_prompts, self._plain_s(precision), self._process_s
        before = [stage.seconds for stage in self.found.stages if stage.stage == "plan"]
        if not before:
            return budget.plan_seconds(*work)
        num_sweeps = 1 if other is None else 1 + len(self.found.plans)
        return max(before) + num_sweeps * budget.sweep_seconds([1.0], *work)

    def _mixed_plans(self) -> None:
        """Draft models at other precisions than the target's, where they could bring the fastest."""
        predictions = self.found.predictions()
        models = [draft.label for draft in self.workload.drafts if draft.checkpoint is not None]
        if not predictions or not models:
            return
        own = predictions[0].precision
        of_own = [one for one in predictions if one.precision == own]
        hopeful = [label for label in models if mixed_could_pay(of_own, label)]
        if not hopeful:
            self.found.notes.append(reason("recommend.mixed_cannot_pay", own, best=predictions[0].name))
            return
        for row in self.found.finished():
            if row.precision != own:
                self._plan((own, row.precision), hopeful)

    def _sweep(self, pair: Pair, wanted: Sequence[Prediction]) -> None:
        precision, other = pair
        what, name = pair_name(pair), f"sweep-{pair_folder(pair)}"
        kept = wanted[: self._decisions.of(name, lambda: self._num_fitting(precision, wanted))]
        for one in wanted[len(kept) :]:
            self.found.skipped.append(skipped("budget.contender", one.name, speedup=one.speedup))
        if not kept:
            return
        start_s = monotonic()
        only = tuple((one.draft, one.k) for one in kept)
        labels = list(dict.fromkeys(one.draft for one in kept))
        config = self._spec_config(precision, other, plan=False, labels=labels)
        config = config.model_copy(update={"only": only, "k": tuple(sorted({k for _, k in only}))})

        def keep(result: object) -> None:
            if isinstance(result, SpecDecodeResult):
                self.found.sweeps[pair] = result

        keep(self._run(config, name, f"contenders at {what}", keep))
        names = ", ".join(draft_name(draft, k).replace(",", "") for draft, k in only)
        self._note_stage(name, "contenders", f"{what}: {names}", start_s)

    def _num_fitting(self, precision: str, wanted: Sequence[Prediction]) -> int:
        """How many of the contenders fit into what is left of the budget."""
        speedups = [one.speedup for one in wanted]
        work = self.config.num_prompts, self._plain_s(precision), self._process_s or 10.0
        return budget.fit_sweep(speedups, *work, self._left_s())

    # --- the modules --------------------------------------------------------------------------------

    def _run(
        self, config: SpecDecodeConfig, name: str, what: str, keep: Callable[[object], None]
    ) -> SpecDecodeResult:
        def report(stage: str, done: int, total: int) -> None:
            self.report(what, stage, done, total)

        with self._kept(name, keep):
            return spec_decode_module.measure_spec_decode(
                config, self._options(name), self.publishers.spec_decode, report
            )

    def _options(self, name: str) -> RunOptions:
        """Of a stage, whose folder is below this run's."""
        folder = None if self._folder is None else self._folder / name
        return self.options.model_copy(update={"output": folder, "root": None})

    def _settings(self, *names: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self.config, name) for group in names for name in group}

    def _of_llama_cpp(self, names: Sequence[str]) -> dict[str, Any]:
        """What of its settings is for these formats: of files theirs, of the rest nothing where it runs none.
        A draft may be a file, whatever the target's format."""
        files = [entry for entry in self.config.gguf if entry.split("=", 1)[0] in names]
        drafts = [draft for draft in self._checkpoints() if draft.header is not None]
        if drafts or any(formats.find(name).backend == LLAMA_CPP for name in names):
            return {"gguf": tuple(files)}
        return {"gguf": tuple(files), "kv_cache": kv_cache.AUTO, "flash_attention": "auto"}

    def _checkpoints(self) -> list[Checkpoint]:
        """Of the drafts, once they are known."""
        workload = getattr(self, "workload", None)
        drafts = workload.drafts if workload is not None else ()
        return [draft.checkpoint for draft in drafts if draft.checkpoint is not None]

    def _spec_config(
        self, precision: str, other: str | None, *, plan: bool, labels: Sequence[str] | None = None
    ) -> SpecDecodeConfig:
        settings = self._settings(_SHARED, _DRAFTING) | {"precision": precision, "draft_precision": other}
        settings |= self._of_llama_cpp([precision, *([other] if other else [])])
        if labels is not None:
            asked = [draft.asked for draft in self.workload.drafts if draft.label in labels]
            settings["drafts"] = tuple(asked)
        return make_config(SpecDecodeConfig, settings | {"plan": plan})
