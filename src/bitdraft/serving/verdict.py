"""Whether speculation pays on servers as they are deployed, and up to which load, as findings that the
intervals support. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.config.serving import ServeBenchConfig
from bitdraft.metrics.serving import paces
from bitdraft.schema.findings import Finding, answer, of_code, reason, warning
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServerRequest, ServingRow, ServingVerdict
from bitdraft.serving.analysis import Records, contradictions
from bitdraft.stats.drift import DRIFT_LIMIT, DRIFT_WARNING
from bitdraft.stats.selection import BEYOND_A_STEP, of_the_best, pays

FEW_TOKENS = 0.02
"""Lengths that differ by more than this share compare different work"""
MOST_CACHED = 0.1
"""Of the prompts' tokens; what all chats begin with is cached by right"""


def decide(
    rows: Sequence[ServingRow], config: ServeBenchConfig, notes: Sequence[Finding]
) -> tuple[ServingVerdict, list[Finding]]:
    """The verdict, and what it is made of. All (server, load) are looked at together. `notes` are the
    warnings, of which some take a server or a load out."""
    baseline = config.baseline
    measured = [row for row in rows if row.status == "ok"]
    others = [row for row in measured if "speedup" in row.metrics]
    failed = failures_of(rows)
    if not measured:
        return ServingVerdict(), [answer("serving.none_measured"), *failed]
    if len(config.urls) == 1:
        only = measured[0]
        speed = only.metrics["throughput_tok_s"]
        return ServingVerdict(), [answer("serving.alone", only.server, load=only.load, speed=speed), *failed]
    if not others:
        return ServingVerdict(), [answer("serving.not_compared", baseline), *failed]
    judged = {(row.server, row.load): of_the_best(row.metrics["speedup"], len(others)) for row in others}
    answers, reasons, best = [], [], {}
    if len(others) > 1:
        reasons.append(reason("serving.chosen_among", n=len(others)))
    out = _not_the_same(notes, config)
    drifts = {one.number("load"): one.number("drift") for one in of_code(notes, "serving.drift")}
    for load in config.loads:
        of_load = [row for row in others if row.load == load]
        own = [row for row in of_load if (row.server, load) not in out]
        if of_load and not own:
            name = max(of_load, key=lambda row: row.metrics["speedup"].value).server
            answers.append(answer("serving.not_the_same", name, load=load, baseline=baseline))
        if not own:
            continue
        # of those that are shown to pay the fastest; where none is, the fastest of all
        paying = [row for row in own if pays(judged[row.server, load])]
        fastest = max(paying or own, key=lambda row: row.metrics["speedup"].value)
        figure = judged[fastest.server, load]
        drift = drifts.get(load, 1.0)
        if config.one_at_a_time and drift > DRIFT_LIMIT:
            answers.append(answer("serving.too_drifted", fastest.server, load=load, drift=drift))
            for row in own:
                del judged[row.server, load]
            continue
        verdict = pays(figure)
        code = {True: "serving.pays", False: "serving.refuse", None: "serving.open"}[verdict]
        answers.append(answer(code, fastest.server, load=load, speedup=figure, baseline=baseline))
        if verdict is not None:
            best[str(load)] = fastest.server if verdict else baseline
        reasons += [
            reason("serving.other", row.server, load=load, speedup=judged[row.server, load])
            for row in own
            if row is not fastest
        ]
    up_to, stops = {}, {}
    for server in (name for name in config.urls if name != baseline):
        told = [load for load in config.loads if (server, load) in judged and (server, load) not in out]
        figures = {load: judged[server, load] for load in told}
        found = break_even(figures)
        if found is not None and len(figures) > 1:
            up_to[server], stops[server] = found
            reasons.append(reason("serving.break_even", server, pays=found[0], stops=found[1]))
    verdict_found = ServingVerdict(best=best, pays_up_to=up_to, stops_at=stops)
    return verdict_found, [*answers, *reasons, *failed]


def failures_of(rows: Sequence[ServingRow]) -> list[Finding]:
    """Why rows have no numbers."""
    return [
        reason("serving.failed", row.server, load=row.load, why=row.reason)
        for row in rows
        if row.status != "ok"
    ]


def _not_the_same(notes: Sequence[Finding], config: ServeBenchConfig) -> set[tuple[str, int]]:
    """(server, load) whose ratio to the baseline is not one of speculation: faster than a step's tokens
    allow, or greedy answers of other lengths."""
    codes = {"serving.beyond_a_step"} | ({"serving.lengths"} if config.temperature == 0 else set())
    return {(one.subject, int(one.number("load"))) for one in notes if one.code in codes}


def break_even(figures: dict[int, Figure]) -> tuple[int, int] | None:
    """(the largest load at which it is shown to pay, the smallest above it from which on it never is): where
    speculation stops paying lies between. 0 where it pays at none; None where it never stops."""
    loads = sorted(figures)
    told = {load: pays(figures[load]) for load in loads}
    paying = max((load for load in loads if told[load] is True), default=0)
    refused = [load for load in loads if load > paying and told[load] is False]
    return (paying, refused[0]) if refused else None


def warnings_of(records: Records, rows: Sequence[ServingRow], config: ServeBenchConfig) -> list[Finding]:
    """What takes trust from the rows."""
    found: list[Finding] = []
    for row in rows:
        key = (row.server, row.load)
        own = list(records.requests.get(key, {}).values())
        failed = [request.error for request in own if request.error is not None]
        if failed and row.status == "ok":
            found.append(
                warning(
                    "serving.some_failed",
                    row.server,
                    load=row.load,
                    n=len(failed),
                    of=len(own),
                    why=failed[0] or "",
                )
            )
        retried = sum(request.num_tries > 1 for request in own)
        if retried:
            found.append(warning("serving.retried", row.server, load=row.load, n=retried))
        window = records.windows.get(key)
        if window is not None and window.has_others:
            more = (window.num_requests or 0) - window.num_sent
            found.append(warning("serving.others", row.server, load=row.load, n=more))
        if window is not None and window.counts is not None and not window.covers(own):
            figures = {"load": row.load, "n": window.num_sent, "of": len(own)}
            found.append(warning("serving.counters_partial", row.server, **figures))
        waiting = _waiting(own) if not row.load and records.timeline == "sent" else 0
        if 2 * waiting > len(own):
            found.append(warning("serving.overloaded", row.server, load=row.load, n=waiting, of=len(own)))
        if window is not None and window.restarted:
            found.append(warning("serving.restarted", row.server, load=row.load))
        specs = [request.spec for request in own if request.spec is not None]
        specs += [window.counts] if window is not None and window.counts is not None else []
        wrong = [why[0] for spec in specs if (why := contradictions(spec, row.k))]
        if wrong:
            found.append(
                warning("serving.contradiction", row.server, load=row.load, what=wrong[0], n=len(wrong))
            )
        less = _drafts_less(row, own)
        if less is not None:
            found.append(warning("serving.k_is_less", row.server, load=row.load, k=row.k, drafted=less))
        found += [*_beyond_a_step(row), *_cached(row, own)]
    told = records.in_order() if records.timeline == "sent" else []
    for load, drift in paces(told, config.baseline).items():
        # at a rate a queue changes it
        if load and drift is not None and drift > DRIFT_WARNING:
            found.append(warning("serving.drift", config.baseline, load=load, drift=drift))
    found += _texts(records, config)
    return found


def _waiting(requests: Sequence[ServerRequest]) -> int:
    """How many were not over when the last one was sent, itself not counted."""
    last_s = max((one.submit_s for one in requests), default=0.0)
    return sum(one.end_s > last_s for one in requests if one.submit_s < last_s)


def _drafts_less(row: ServingRow, requests: Sequence[ServerRequest]) -> float | None:
    """Drafted tokens a step, where that is clearly less than K, and not for want of room at the ends of
    answers, where up to K tokens are left out: an engine that drafts by confidence."""
    specs = [r.spec for r in requests if r.spec is not None and r.spec.num_steps and r.spec.num_drafted]
    steps = sum(spec.num_steps or 0 for spec in specs)
    drafted = sum(spec.num_drafted or 0 for spec in specs)
    if row.k is None or not steps or drafted + row.k * len(specs) > 0.9 * row.k * steps:
        return None
    return drafted / steps


def _beyond_a_step(row: ServingRow) -> list[Finding]:
    """A speedup above what a step's tokens can give. At a rate the plain server may have a queue, and any
    ratio is possible."""
    tau, speedup = row.metrics.get("tokens_per_step"), row.metrics.get("speedup")
    if tau is None or speedup is None or not row.load or speedup.value <= BEYOND_A_STEP * tau.value:
        return []
    return [warning("serving.beyond_a_step", row.server, load=row.load, speedup=speedup, most=tau.value)]


def _cached(row: ServingRow, requests: Sequence[ServerRequest]) -> list[Finding]:
    """Prompts that a server knew already, whose first tokens come sooner than a new one's would."""
    told = [one for one in requests if one.cached_tokens is not None and one.prompt_tokens]
    cached, total = sum(one.cached_tokens or 0 for one in told), sum(one.prompt_tokens or 0 for one in told)
    if not total or cached <= MOST_CACHED * total:
        return []
    return [warning("serving.cached", row.server, load=row.load, share=cached / total)]


def _texts(records: Records, config: ServeBenchConfig) -> list[Finding]:
    """Greedy texts beside the baseline's, one request at a time; and lengths that differ."""
    found: list[Finding] = []
    for load in config.loads:
        base = records.requests.get((config.baseline, load), {})
        for server in config.urls:
            own = records.requests.get((server, load), {})
            both = [
                (own[index], base[index])
                for index in own
                if index in base and own[index].error is None and base[index].error is None
            ]
            if server == config.baseline or not both:
                continue
            if config.temperature == 0 and all(a.text and b.text for a, b in both):
                same = sum(a.text == b.text for a, b in both)
                found.append(reason("serving.texts", server, load=load, same=same, total=len(both)))
            lengths = [sum(r.completion_tokens or 0 for r in side) for side in zip(*both, strict=True)]
            if abs(lengths[0] - lengths[1]) > FEW_TOKENS * lengths[1]:
                found.append(warning("serving.lengths", server, load=load, own=lengths[0], base=lengths[1]))
    return found
