"""Records, results and findings: the border between measuring and showing."""
