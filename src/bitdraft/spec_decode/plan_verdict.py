"""What a plan says: the best predicted (draft, K), not to speculate, or that it cannot tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bitdraft.schema.findings import Finding, answer, reason, warning
from bitdraft.schema.spec_decode import CostRecord, DraftPlan, SpecDecodeVerdict
from bitdraft.spec_decode.candidates import Decided, name_of
from bitdraft.stats.selection import LEAST_WORTH

# a prediction holds within a few percent (docs/benchmarks) where its costs do
MARGIN = 0.9
# more tokens take no less time, but for what timing wavers by
_LEAST_VERIFICATION, _WIDEST = 0.9, 2.0


def decide_plan(plan: Mapping[str, DraftPlan], num_prompts: int, costs: CostRecord | None = None) -> Decided:
    """The best predicted (draft, K), or not to speculate; open between the two, and where the costs cannot be
    right."""
    if not plan:
        return SpecDecodeVerdict(), (answer("plan.none"),)
    draft = max(plan, key=lambda name: plan[name].best.replay_end_to_end)
    k, speedup = plan[draft].best_k.replay, plan[draft].best.replay_end_to_end
    doubts = doubts_of(costs) if costs is not None else ()
    speculate = True if speedup >= LEAST_WORTH else False if speedup < MARGIN else None
    if doubts:
        speculate = None
    code = {True: "plan.speculate", False: "plan.refuse", None: "plan.open"}[speculate]
    findings = [answer(code, name_of(draft, k), speedup=speedup)]
    findings += [
        reason(
            "plan.draft",
            name,
            k=entry.best_k.replay,
            speedup=entry.best.replay_end_to_end,
            tokens_per_step=entry.best.tokens_per_step,
        )
        for name, entry in plan.items()
    ]
    findings.append(reason("plan.how", n=num_prompts))
    verdict = SpecDecodeVerdict(
        speculate=speculate,
        draft=None if speculate is False else draft,
        k=None if speculate is False else k,
    )
    return verdict, (*findings, *doubts)


def doubts_of(costs: CostRecord) -> tuple[Finding, ...]:
    """Why predictions from these costs are not to be trusted: other work disturbed their timing."""
    found = []
    cheap = {k: cost for k, cost in costs.verify_cost.items() if k and cost < _LEAST_VERIFICATION}
    if cheap:
        k = min(cheap, key=lambda one: cheap[one])
        found.append(warning("plan.impossible_costs", k=k, cost=cheap[k]))
    one = costs.target_forward_ms.get(1)
    if one is not None and one.low is not None and one.high is not None and one.high > _WIDEST * one.low:
        found.append(warning("plan.noisy_costs", forward=one))
    return tuple(found)
