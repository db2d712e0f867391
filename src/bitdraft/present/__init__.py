"""Showing: sentences, tables, charts and pages, from results alone. Nothing here is read back."""
