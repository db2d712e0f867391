"""Intervals and what they promise."""
