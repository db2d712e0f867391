"""bitdraft: what numeric precision and speculative decoding buy your language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bitdraft.compare.compare import compare_results
    from bitdraft.compare.records import Comparison
    from bitdraft.config import PrecisionConfig, RecommendConfig, SpecDecodeConfig
    from bitdraft.decoder import Decoder
    from bitdraft.errors import UserError
    from bitdraft.precision.evaluate import evaluate_precision
    from bitdraft.recommend.search import recommend_deployment
    from bitdraft.report.page import write_report
    from bitdraft.schema.results import PrecisionResult, Recommendation, SpecDecodeResult
    from bitdraft.spec_decode.evaluate import evaluate_spec_decode

__all__ = [
    "Comparison",
    "Decoder",
    "PrecisionConfig",
    "PrecisionResult",
    "RecommendConfig",
    "Recommendation",
    "SpecDecodeConfig",
    "SpecDecodeResult",
    "UserError",
    "compare_results",
    "evaluate_precision",
    "evaluate_spec_decode",
    "recommend_deployment",
    "write_report",
]

_HOMES = {
    "Decoder": "bitdraft.decoder",
    "Comparison": "bitdraft.compare.records",
    "PrecisionConfig": "bitdraft.config",
    "PrecisionResult": "bitdraft.schema.results",
    "RecommendConfig": "bitdraft.config",
    "Recommendation": "bitdraft.schema.results",
    "SpecDecodeConfig": "bitdraft.config",
    "SpecDecodeResult": "bitdraft.schema.results",
    "UserError": "bitdraft.errors",
    "compare_results": "bitdraft.compare.compare",
    "evaluate_precision": "bitdraft.precision.evaluate",
    "evaluate_spec_decode": "bitdraft.spec_decode.evaluate",
    "recommend_deployment": "bitdraft.recommend.search",
    "write_report": "bitdraft.report.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitdraft' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
