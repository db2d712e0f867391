"""Two folders of results, row by row: what changed, what only seems to, and what cannot be compared."""
