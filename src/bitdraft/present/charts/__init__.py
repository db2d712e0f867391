"""Charts as pictures and as parts of the page, drawn from results alone."""
