"""bitdraft: what numeric precision and speculative decoding buy your language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bitdraft.api import (
        bench_servers,
        certify_server,
        compare_results,
        evaluate_precision,
        evaluate_spec_decode,
        import_results,
        measure_in_turn,
        recommend_deployment,
        run_matrix,
    )
    from bitdraft.config import PrecisionConfig, RecommendConfig, ServeBenchConfig, SpecDecodeConfig
    from bitdraft.config.running import RunOptions
    from bitdraft.config.serving import CertifyConfig
    from bitdraft.decoder import Decoder
    from bitdraft.errors import Interrupted, UserError
    from bitdraft.export.export import export_result
    from bitdraft.present.page.page import write_report
    from bitdraft.schema.comparison import Comparison
    from bitdraft.schema.findings import Finding
    from bitdraft.schema.io import load_result
    from bitdraft.schema.precision import PrecisionResult
    from bitdraft.schema.recommendation import Recommendation
    from bitdraft.schema.serving import Certificate, ServingResult
    from bitdraft.schema.spec_decode import SpecDecodeResult

__all__ = [
    "Certificate",
    "CertifyConfig",
    "Comparison",
    "Decoder",
    "Finding",
    "Interrupted",
    "PrecisionConfig",
    "PrecisionResult",
    "RecommendConfig",
    "Recommendation",
    "RunOptions",
    "ServeBenchConfig",
    "ServingResult",
    "SpecDecodeConfig",
    "SpecDecodeResult",
    "UserError",
    "bench_servers",
    "certify_server",
    "compare_results",
    "evaluate_precision",
    "evaluate_spec_decode",
    "export_result",
    "import_results",
    "load_result",
    "measure_in_turn",
    "recommend_deployment",
    "run_matrix",
    "write_report",
]

_HOMES = {
    "Comparison": "bitdraft.schema.comparison",
    "Decoder": "bitdraft.decoder",
    "Finding": "bitdraft.schema.findings",
    "Interrupted": "bitdraft.errors",
    "PrecisionConfig": "bitdraft.config",
    "PrecisionResult": "bitdraft.schema.precision",
    "RecommendConfig": "bitdraft.config",
    "Recommendation": "bitdraft.schema.recommendation",
    "RunOptions": "bitdraft.config.running",
    "ServeBenchConfig": "bitdraft.config",
    "ServingResult": "bitdraft.schema.serving",
    "SpecDecodeConfig": "bitdraft.config",
    "bench_servers": "bitdraft.api",
    "certify_server": "bitdraft.api",
    "Certificate": "bitdraft.schema.serving",
    "CertifyConfig": "bitdraft.config.serving",
    "SpecDecodeResult": "bitdraft.schema.spec_decode",
    "UserError": "bitdraft.errors",
    "compare_results": "bitdraft.api",
    "load_result": "bitdraft.schema.io",
    "measure_in_turn": "bitdraft.api",
    "evaluate_precision": "bitdraft.api",
    "evaluate_spec_decode": "bitdraft.api",
    "export_result": "bitdraft.export.export",
    "import_results": "bitdraft.api",
    "recommend_deployment": "bitdraft.api",
    "run_matrix": "bitdraft.api",
    "write_report": "bitdraft.present.page.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitdraft' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
