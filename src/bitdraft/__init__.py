"""bitdraft: what numeric precision and speculative decoding buy your language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bitdraft.config import PrecisionConfig, SpecDecodeConfig
    from bitdraft.errors import UserError
    from bitdraft.precision.evaluate import evaluate_precision
    from bitdraft.report.page import write_report
    from bitdraft.results import PrecisionResult, SpecDecodeResult
    from bitdraft.spec_decode.evaluate import evaluate_spec_decode

__all__ = [
    "PrecisionConfig",
    "PrecisionResult",
    "SpecDecodeConfig",
    "SpecDecodeResult",
    "UserError",
    "evaluate_precision",
    "evaluate_spec_decode",
    "write_report",
]

_HOMES = {
    "PrecisionConfig": "bitdraft.config",
    "PrecisionResult": "bitdraft.results",
    "SpecDecodeConfig": "bitdraft.config",
    "SpecDecodeResult": "bitdraft.results",
    "UserError": "bitdraft.errors",
    "evaluate_precision": "bitdraft.precision.evaluate",
    "evaluate_spec_decode": "bitdraft.spec_decode.evaluate",
    "write_report": "bitdraft.report.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitdraft' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
