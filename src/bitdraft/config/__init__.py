"""What is asked: frozen, keyword-only configurations, validated in one place."""

from bitdraft.config.backends import CAPABILITIES, BackendName, Capabilities
from bitdraft.config.base import Config
from bitdraft.config.decoding import (
    LARGEST_BATCH,
    MOST_K,
    NGRAM,
    DecodingConfig,
    DraftsConfig,
    Execution,
    SamplingConfig,
)
from bitdraft.config.make import make_config
from bitdraft.config.model import ModelConfig
from bitdraft.config.runs import (
    PRECISIONS,
    PplProtocol,
    Precision,
    PrecisionConfig,
    PrecisionsConfig,
    RecommendConfig,
    SpecDecodeConfig,
)
from bitdraft.config.serving import ServeBenchConfig
from bitdraft.config.text import TextConfig

__all__ = [
    "CAPABILITIES",
    "LARGEST_BATCH",
    "MOST_K",
    "NGRAM",
    "PRECISIONS",
    "BackendName",
    "Capabilities",
    "Config",
    "DecodingConfig",
    "DraftsConfig",
    "Execution",
    "ModelConfig",
    "PplProtocol",
    "Precision",
    "PrecisionConfig",
    "PrecisionsConfig",
    "RecommendConfig",
    "SamplingConfig",
    "ServeBenchConfig",
    "SpecDecodeConfig",
    "TextConfig",
    "make_config",
]
