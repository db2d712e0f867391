"""Plan first: which draft and K should pay? Then measure that choice and its neighbours."""

from __future__ import annotations

from typing import Any

import bitdraft

DRAFTS = {"draft-small": "demo/draft-small", "draft-medium": "demo/draft-medium", "ngram": "ngram"}


def main() -> bitdraft.SpecDecodeResult:
    common: dict[str, Any] = {
        "model": "demo/target",
        "num_prompts": 5,
        "max_prompt_tokens": 128,
        "max_new_tokens": 48,
    }
    plan = bitdraft.evaluate_spec_decode(**common, drafts=tuple(DRAFTS.values()), k="1-8", plan=True)
    print(plan.summary)
    draft, k = plan.verdict.draft or "ngram", plan.verdict.k or 4
    result = bitdraft.evaluate_spec_decode(
        **common,
        drafts=DRAFTS[draft],
        k=(max(1, k - 1), k, k + 1),
        on_progress=lambda stage, done, total: print(f"{stage} {done}/{total}"),
    )
    for row in result.sweep:
        speedup, acceptance = row.metrics["speedup"], row.metrics["acceptance_rate"]
        print(f"{row.draft}, K = {row.k}: {speedup.value:.2f}×, acceptance rate {acceptance.value:.3f}")
    print(result.summary)
    return result


if __name__ == "__main__":
    main()
