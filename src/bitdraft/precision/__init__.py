"""The precision module: load → quality → speed → peak memory at each precision."""
