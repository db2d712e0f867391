"""What was measured, in the words of engines and planners: which draft and K, how often it is kept, and K by
batch size. No torch."""

from __future__ import annotations

from bitdraft.export.export import export_result
from bitdraft.export.targets import TARGETS

__all__ = ["TARGETS", "export_result"]
