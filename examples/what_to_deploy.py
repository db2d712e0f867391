"""Ask what to deploy: which precision, and which draft with which K, or none. Print the answer as code."""

from __future__ import annotations

import bitdraft


def main() -> bitdraft.Recommendation:
    result = bitdraft.recommend_deployment(
        model="demo/target",
        drafts="ngram",
        precisions=("fp32", "bf16"),
        k="4,8",
        num_prompts=5,
        max_prompt_tokens=64,
        max_new_tokens=24,
        ppl_max_tokens=2048,
        kl_max_tokens=0,
        on_progress=lambda what, stage, done, total: print(f"{what}: {stage} {done}/{total}"),
    )
    for option in result.contenders:
        speed = option.throughput_tok_s
        if speed is not None:
            draft = "plain" if option.k == 0 else f"{option.draft}, K = {option.k}"
            print(f"{option.precision}, {draft}: {speed.value:.0f} tokens/s, {option.standing}")
    print(result.summary)
    for tool, snippet in result.snippets.items():
        print(f"\n--- {tool}\n{snippet}")
    return result


if __name__ == "__main__":
    main()
