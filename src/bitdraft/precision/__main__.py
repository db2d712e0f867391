"""`python -m bitdraft.precision`: the module's own defaults, EleutherAI/pythia-2.8b on WikiText-2.

Every flag of `bitdraft precision` overrides them.
"""

import sys

from bitdraft.cli import main

DEFAULTS = {"model": "EleutherAI/pythia-2.8b", "dataset": "wikitext"}

main(sys.argv[1:], "precision", default_map=DEFAULTS, prog_name="python -m bitdraft.precision")
