"""`python -m bitdraft.spec_decode`: the module's own defaults on WikiText-2; see `wikitext_eval`."""

from bitdraft.spec_decode import wikitext_eval

wikitext_eval.run(module="")
