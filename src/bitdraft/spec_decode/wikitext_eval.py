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


def run(dataset: str = "wikitext", module: str = "wikitext_eval") -> None:
    """The command with these defaults, under the module's own name."""
    from bitdraft.cli import main

    name = f"python -m bitdraft.spec_decode.{module}".removesuffix(".")
    main(sys.argv[1:], "spec-decode", default_map=DEFAULTS | {"dataset": dataset}, prog_name=name)


if __name__ == "__main__":
    run()
