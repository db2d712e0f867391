"""`python -m bitdraft.precision`: the module's own defaults, EleutherAI/pythia-2.8b on WikiText-2.

Every flag of `bitdraft precision` overrides them.
"""

import sys

from bitdraft.cli import main

DEFAULTS = {"precision": {"model": "EleutherAI/pythia-2.8b", "dataset": "wikitext"}}

main(["precision", *sys.argv[1:]], default_map=DEFAULTS, prog_name="python -m bitdraft")
