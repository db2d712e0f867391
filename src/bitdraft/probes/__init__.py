"""Clocks, memory, energy and the machine itself."""
