"""Where the cells of a run are computed. An executor knows nothing of what it runs."""
