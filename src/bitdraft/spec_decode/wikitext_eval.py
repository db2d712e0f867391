"""`python -m bitdraft.spec_decode.wikitext_eval`: EleutherAI/pythia-2.8b in fp16, the dtype it is stored
in, with pythia-70m and pythia-160m as drafts, K = 3 … 10, on WikiText-2.

Every flag of `bitdraft spec-decode` overrides these.
"""

import sys

DEFAULTS = {
    "model": "EleutherAI/pythia-2.8b",
    "drafts": ["70M=EleutherAI/pythia-70m", "160M=EleutherAI/pythia-160m"],
    "k": "3-10",
    "precision": "fp16",
}


def run(dataset: str = "wikitext") -> None:
    from bitdraft.cli import main

    defaults = {"spec-decode": DEFAULTS | {"dataset": dataset}}
    main(["spec-decode", *sys.argv[1:]], default_map=defaults, prog_name="python -m bitdraft")


if __name__ == "__main__":
    run()
