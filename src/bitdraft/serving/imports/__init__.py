"""Results of other load generators, read into ours: a file a tool."""

from __future__ import annotations

from bitdraft.serving.imports.imported import import_results

__all__ = ["import_results"]
