"""`python -m bitdraft.spec_decode.pg_19_eval`: the same run as `wikitext_eval`, on PG-19's test books."""

from bitdraft.spec_decode.wikitext_eval import run

if __name__ == "__main__":
    run("pg19", "pg_19_eval")
