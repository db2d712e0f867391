"""The third module: running servers, beside each other."""
