"""Settings as keywords: their names, what is told of them, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

import bitdraft
from bitdraft.config import PrecisionConfig, RecommendConfig, SpecDecodeConfig
from bitdraft.config.base import Config
from bitdraft.config.keywords import PrecisionKeywords, RecommendKeywords, SpecDecodeKeywords
from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError

FUNCTIONS: list[tuple[Any, type, type[Config]]] = [
    (bitdraft.evaluate_precision, PrecisionKeywords, PrecisionConfig),
    (bitdraft.evaluate_spec_decode, SpecDecodeKeywords, SpecDecodeConfig),
    (bitdraft.recommend_deployment, RecommendKeywords, RecommendConfig),
]


@pytest.mark.parametrize(("function", "keywords", "kind"), FUNCTIONS)
def test_every_setting_is_a_keyword_and_is_explained(
    function: Any, keywords: type, kind: type[Config]
) -> None:
    fields = {**kind.model_fields, **RunOptions.model_fields}
    assert set(get_type_hints(keywords)) == fields.keys() - {"model"}
    parameters = inspect.signature(function).parameters
    assert next(iter(parameters)) == "model"
    for name, field in fields.items():
        assert field.description, name
        assert name in parameters, name
        if name != "model":
            assert parameters[name].default == field.default
            assert f"\n  {name} (default " in function.__doc__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "model: 3: no text"),
        ({"num_prompts": "many"}, "num_prompts: many: no whole number. Give a whole number"),
        ({"precisions": 3}, "precisions: 3: no list"),
        ({"precisions": "fp32,fp64"}, "Choose from fp32, fp16, bf16"),
        ({"output": 3}, "output: 3"),
        ({"max_tokens": 3}, "no such setting"),
        ({"model": PrecisionConfig()}, "Give it as config="),
        ({"config": PrecisionConfig(), "seed": 1}, "Give either a config or settings"),
        ({"config": SpecDecodeConfig()}, "Give a PrecisionConfig"),
        ({"cell_timeout_s": "soon"}, "soon: no time"),
        ({"max_ppl_increase": "x%"}, "x%: no share"),
        ({"max_ppl_increase": "200%"}, "200%: too large"),
    ],
)
def test_wrong_settings_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bitdraft.evaluate_precision(**arguments)


def test_text_stands_for_lists_shares_and_times() -> None:
    config = RecommendConfig.model_validate(
        {"precisions": "fp32, bf16", "k": "1-3", "budget_s": "10m", "max_ppl_increase": "0.5%"}
    )
    assert config.precisions == ("fp32", "bf16")
    assert config.k == (1, 2, 3)
    assert config.budget_s == 600
    assert config.max_ppl_increase == 0.005
    assert RunOptions.model_validate({"devices": "0,1", "cell_timeout_s": "90s"}).cell_timeout_s == 90
