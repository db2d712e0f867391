"""Run both modules in the order that answers the question soonest: all precisions, then plans, then only the
contenders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from bitdraft.config import NGRAM, PrecisionConfig, RecommendConfig, SpecDecodeConfig, make_config
from bitdraft.errors import UserError
from bitdraft.precision import evaluate as precision_module
from bitdraft.recommend import budget
from bitdraft.recommend.choose import by_pair, contenders, mixed_could_pay
from bitdraft.recommend.found import Found, precision_verdict
from bitdraft.recommend.options import Pair, Prediction
from bitdraft.recommend.output import save
from bitdraft.recommend.record import build
from bitdraft.recommend.snippets import snippets_of
from bitdraft.schema.io import prepare_output
from bitdraft.schema.results import Recommendation
from bitdraft.spec_decode import evaluate as spec_decode_module
from bitdraft.spec_decode.workload import Workload, prepare
from bitdraft.tables import pair_name

Progress = Callable[[str, str, int, int], None]
"""(what is measured, the module's stage, done, total)"""

_SHARED = (
    *("model", "revision", "allow_pickle", "trust_remote_code", "seed", "device"),
    *("dataset", "data_root", "num_prompts", "min_text_chars", "max_prompt_tokens"),
    *("max_new_tokens", "ignore_eos", "execution"),
)
_QUALITY = ("ppl_protocol", "ppl_max_tokens", "kl_max_tokens", "max_ppl_increase")
_DRAFTING = ("temperature", "top_k", "top_p", "drafts", "k")


def recommend_deployment(
    config: RecommendConfig | None = None, *, on_progress: Progress | None = None, **settings: Any
) -> Recommendation:
    """Say what to deploy: a precision, and a draft with its K or none.

    Give a `RecommendConfig`, or its fields as keywords (`model`, `drafts`, `precisions`, `k`, `dataset`,
    limits, …). With `output` set, recommendation.json and .md are written there beside precision.json and
    its chart, and what is measured of drafts in a folder for each precision. Raises `UserError` for a
    request that cannot be carried out. An interrupt keeps what is finished.
    """
    if config is None:
        config = make_config(RecommendConfig, settings)
    elif settings:
        raise TypeError("give either a config or settings, not both")
    if config.random_weights:
        problem = "what to deploy depends on quality and acceptance, which random weights don't have"
        raise UserError("random_weights", True, problem, "Name a trained checkpoint")
    if config.drafts is None and not config.model.startswith("demo/"):
        config = config.model_copy(update={"drafts": (NGRAM,)})
    if config.output is not None:
        prepare_output(config.output)
    search = _Search(config, on_progress or (lambda *_: None))
    try:
        search.run()
    except KeyboardInterrupt:
        search.found.skipped.append("what followed: the run was interrupted")
        if config.output is not None and search.found.precision is not None:
            save(search.result(), config.output)
        raise
    search.say_if_late()
    result = search.result()
    if config.output is not None:
        save(result, config.output)
    return result


class _Search:
    """One run, stage by stage; `found` is all that the result is made of."""

    def __init__(self, config: RecommendConfig, report: Progress) -> None:
        self.config, self.report, self.found = config, report, Found()
        self._start_s = monotonic()
        report("everything", "prepare", 0, 1)
        # every bad request is found before anything is measured
        self.workload: Workload = prepare(self._spec_config("fp32", None, plan=True))
        self._process_s = 0.0

    def result(self) -> Recommendation:
        found = build(self.config, self.found)
        return found.model_copy(update={"snippets": snippets_of(found.choice, self.workload, self.config)})

    def run(self) -> None:
        self._precisions()
        result = self.found.precision
        assert result is not None
        precision = precision_verdict(result, self.config)["precision"]
        if precision is None:
            return
        allowed = [one.precision for one in self.found.plain(self.config) if one.problem is None]
        for own in (precision, *(name for name in allowed if name != precision)):
            self._plan((own, None))
        self._mixed_plans()
        picked = contenders(self.found.predictions(), precision, self.config)
        if self.found.plans and not picked:
            self.found.notes.append(
                "No draft is predicted to come near what is asked for: none was measured."
            )
        for pair, wanted in by_pair(picked).items():
            self._sweep(pair, wanted)

    # --- time ---------------------------------------------------------------------------------------

    def _left_s(self) -> float:
        limit_s = self.config.budget_s
        return float("inf") if limit_s is None else limit_s - (monotonic() - self._start_s)

    def say_if_late(self) -> None:
        if self._left_s() < 0:
            assert self.config.budget_s is not None
            spent_s = self.config.budget_s - self._left_s()
            self.found.notes.append(
                f"The budget of {self.config.budget_s:.0f} s was exceeded: {spent_s:.0f} s were used. What "
                "measurements take is estimated."
            )

    def _stage(self, stage: str, what: str, start_s: float) -> None:
        self.found.stages.append({"stage": stage, "what": what, "seconds": round(monotonic() - start_s, 1)})

    def _plain_s(self, precision: str) -> float:
        """A request's seconds without a draft."""
        row = next(row for row in self.found.finished() if row.precision == precision)
        return self.config.max_new_tokens / row.metrics["throughput_tok_s"].value

    # --- stages -------------------------------------------------------------------------------------

    def _precisions(self) -> None:
        work = self._fitted() if self.config.budget_s is not None else None
        start_s = monotonic()
        settings = self._settings(_SHARED, _QUALITY) | {"precisions": self.config.precisions}
        if work is not None:
            settings |= {
                "precisions": work.precisions,
                "ppl_max_tokens": work.scored,
                "kl_max_tokens": work.compared,
            }
        config = make_config(PrecisionConfig, settings | {"output": self.config.output})

        def report(precision: str, stage: str, done: int, total: int) -> None:
            self.report(f"precision {precision}".strip(), stage, done, total)

        self.found.precision = precision_module.evaluate_precision(config, on_progress=report)
        self._stage("precision", ", ".join(config.precisions), start_s)

    def _fitted(self) -> budget.Work:
        """What of the precision module's work fits into its share of the budget, by a pilot."""
        start_s = monotonic()
        reference = make_config(PrecisionConfig, {"precisions": self.config.precisions}).reference_precision
        pilot = make_config(
            PrecisionConfig,
            self._settings(_SHARED, ("ppl_protocol",))
            | {
                "precisions": (reference,),
                "num_prompts": 1,
                "max_new_tokens": min(budget.PILOT_TOKENS, self.config.max_new_tokens),
                "ppl_max_tokens": budget.PILOT_SCORED,
                "kl_max_tokens": 0,
            },
        )
        tokens = [len(prompt.token_ids) for prompt in self.workload.prompts]

        began_s: dict[str, float] = {}

        def report(_: str, stage: str, done: int, total: int) -> None:
            began_s.setdefault(stage, monotonic())
            self.report("pilot for the budget", stage, done, total)

        row = precision_module.evaluate_precision(pilot, on_progress=report).rows[0]
        self._stage("pilot", reference, start_s)
        scored = min(self.config.ppl_max_tokens or 65_536, 65_536)
        work = budget.Work(self.config.precisions, len(tokens), scored, self.config.kl_max_tokens)
        if row.status != "ok":
            return work
        load_s = began_s["load"]
        pace = budget.pace_of(row, tokens[0], load_s - start_s, monotonic() - load_s)
        self._process_s = pace.process_s
        mean = sum(tokens) / len(tokens)
        plain_s, left_s = pace.run_s(mean, self.config.max_new_tokens), self._left_s()
        later_s = budget.plan_seconds(len(tokens), plain_s, pace.process_s)
        later_s += budget.sweep_seconds([1.0], len(tokens), plain_s, pace.process_s)
        within_s = max(left_s - later_s, budget.PRECISION_SHARE * left_s)
        fitted, cuts = budget.fit_precisions(work, pace, mean, self.config, reference, within_s)
        self.found.skipped += [f"for the budget: {cut}" for cut in cuts]
        self.config = self.config.model_copy(update={"num_prompts": fitted.num_prompts})
        return fitted

    def _plan(self, pair: Pair, drafts: Sequence[str] | None = None) -> None:
        precision, other = pair
        what = pair_name(pair)
        if self._left_s() < self._plan_seconds(precision):
            self.found.skipped.append(f"for the budget: no plan at {what}, so no draft was considered there")
            return
        start_s = monotonic()
        config = self._spec_config(precision, other, plan=True, labels=drafts)
        plan = self._run(config, f"plan at {what}")
        if plan.plan:
            self.found.plans[pair] = plan
        self.found.notes += [
            f"Plan at {what}: {text}" for text in plan.verdict["reasons"] if " is out: " in text
        ]
        self._stage("plan", what, start_s)

    def _plan_seconds(self, precision: str) -> float:
        """What has to be left for a plan: its own time for the first; for others as long as one took before,
        and a sweep's."""
        work = self.config.num_prompts, self._plain_s(precision), self._process_s
        before = [stage["seconds"] for stage in self.found.stages if stage["stage"] == "plan"]
        if not before:
            return budget.plan_seconds(*work)
        return float(max(before)) + budget.sweep_seconds([1.0], *work)

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
            self.found.notes.append(
                f"Draft models at another precision than the target's {own} cannot pay: even if their "
                f"forwards cost nothing, {predictions[0].name} would be faster."
            )
            return
        for row in self.found.finished():
            if row.precision != own:
                self._plan((own, row.precision), hopeful)

    def _sweep(self, pair: Pair, wanted: Sequence[Prediction]) -> None:
        precision, other = pair
        what, plain_s = pair_name(pair), self._plain_s(precision)
        process_s = self._process_s or 10.0
        speedups = [one.speedup for one in wanted]
        num_prompts = self.config.num_prompts
        num_arms = budget.fit_sweep(speedups, num_prompts, plain_s, process_s, self._left_s())
        for one in wanted[num_arms:]:
            self.found.skipped.append(
                f"for the budget: {one.name} was not measured (predicted {one.speedup:.2f}×)"
            )
        kept = wanted[:num_arms]
        if not kept:
            return
        start_s = monotonic()
        only = tuple((one.draft, one.k) for one in kept)
        labels = list(dict.fromkeys(one.draft for one in kept))
        config = self._spec_config(precision, other, plan=False, labels=labels)
        config = config.model_copy(update={"only": only, "k": tuple(sorted({k for _, k in only}))})
        self.found.sweeps[pair] = self._run(config, f"contenders at {what}")
        self._stage("contenders", f"{what}: {', '.join(f'{d} K = {k}' for d, k in only)}", start_s)

    # --- the modules --------------------------------------------------------------------------------

    def _run(self, config: SpecDecodeConfig, what: str) -> Any:
        def report(stage: str, done: int, total: int) -> None:
            self.report(what, stage, done, total)

        return spec_decode_module.evaluate_spec_decode(config, on_progress=report)

    def _settings(self, *names: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self.config, name) for group in names for name in group}

    def _spec_config(
        self, precision: str, other: str | None, *, plan: bool, labels: Sequence[str] | None = None
    ) -> SpecDecodeConfig:
        settings = self._settings(_SHARED, _DRAFTING) | {"precision": precision, "draft_precision": other}
        if labels is not None:
            asked = [draft.asked for draft in self.workload.drafts if draft.label in labels]
            settings["drafts"] = tuple(asked)
        folder = self.config.output
        settings["output"] = None if folder is None else folder / _folder_name((precision, other))
        return make_config(SpecDecodeConfig, settings | {"plan": plan})


def _folder_name(pair: Pair) -> str:
    precision, other = pair
    return precision if other is None else f"{precision}-drafts-{other}"
