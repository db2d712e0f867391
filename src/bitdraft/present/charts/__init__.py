"""Charts as PNG, drawn from results alone."""
