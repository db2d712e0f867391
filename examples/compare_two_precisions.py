"""Measure the embedded target at two precisions from Python and read the result."""

from __future__ import annotations

import bitdraft


def main() -> bitdraft.PrecisionResult:
    result = bitdraft.evaluate_precision(
        model="demo/target",
        precisions=("fp32", "bf16"),
        num_prompts=5,
        max_prompt_tokens=128,
        max_new_tokens=32,
        ppl_max_tokens=2048,
        kl_max_tokens=512,
        on_progress=lambda precision, stage, done, total: print(f"{precision} {stage} {done}/{total}"),
    )
    for row in result.rows:
        speed, ppl = row.metrics["throughput_tok_s"], row.metrics["ppl"]
        spread = f"[{speed.low:.0f}, {speed.high:.0f}]"
        print(f"{row.precision}: {speed.value:.0f} tokens/s {spread}, PPL {ppl.value:.3f}")
    print(result.summary)
    return result


if __name__ == "__main__":
    main()
