"""Runs on disk and where their cells are computed; knows nothing of what a cell measures."""
