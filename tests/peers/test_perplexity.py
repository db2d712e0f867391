"""Perplexity against other tools on the same text: equal to 1e-4 relative."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bitdraft.config import ModelConfig, PplProtocol
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import STDLIB_HELD_OUT, Dataset, read_stdlib_module, wikitext_rows
from bitdraft.inputs.models import load_model
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.variants import Variant
from bitdraft.inputs.windows import ScoringPlan, plan_scoring
from bitdraft.metrics.quality import perplexity, text_figures
from bitdraft.schema.records import ScoreBlocks
from peers_common import blocks_of

pytestmark = pytest.mark.peers
CONFIG = ModelConfig(model="demo/draft-small")


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    found = find_checkpoint(CONFIG)
    model = load_model(Variant(found, "fp32"), torch.device("cpu"), CONFIG).model
    return model, load_tokenizer(found, CONFIG)


def stdlib_dataset() -> Dataset:
    """Three modules and a document of about one and a half contexts."""
    names = ("bisect.py", "sched.py", "json/decoder.py")
    assert set(names) <= set(STDLIB_HELD_OUT)
    rows = (*(read_stdlib_module(name) for name in names), read_stdlib_module("argparse.py")[:9000])
    return Dataset("stdlib", rows, (*names, "argparse.py"), "test")


def score(
    model: Any, tokenizer: Any, dataset: Dataset, protocol: PplProtocol
) -> tuple[ScoringPlan, ScoreBlocks]:
    encode = text_encoder(tokenizer)
    plan = plan_scoring(dataset, encode, protocol, context=2048, prefix=tokenizer.bos_token_id)
    return plan, blocks_of(model, plan)


def harness_log_likelihoods(model: Any, tokenizer: Any, dataset: Dataset) -> list[float]:
    pytest.importorskip("lm_eval", reason="install the peers extra: pip install 'bitdraft[peers]'")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=2048, device="cpu")
    requests = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(row,), idx=index)
        for index, row in enumerate(dataset.rows)
        if row.strip()
    ]
    return [float(value) for value in harness.loglikelihood_rolling(requests, disable_tqdm=True)]


def assert_equals_the_harness(model: Any, tokenizer: Any, dataset: Dataset) -> None:
    total = sum(harness_log_likelihoods(model, tokenizer, dataset))
    plan, blocks = score(model, tokenizer, dataset, "lm-eval")
    assert sum(blocks.log_prob) == pytest.approx(total, rel=1e-6)
    texts = [row for row in dataset.rows if row.strip()]
    num_bytes = sum(len(text.encode()) for text in texts)
    assert plan.num_words is not None
    figures = text_figures(blocks, plan.num_words, num_bytes)
    assert figures["byte_ppl"].value == pytest.approx(math.exp(-total / num_bytes), rel=1e-4)
    num_tokens = sum(len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts)
    assert perplexity(blocks).value == pytest.approx(math.exp(-total / num_tokens), rel=1e-4)


def test_lm_eval_preset_equals_lm_evaluation_harness(loaded: tuple[Any, Any]) -> None:
    assert_equals_the_harness(*loaded, stdlib_dataset())


def test_lm_eval_preset_equals_lm_evaluation_harness_on_wikitext(
    loaded: tuple[Any, Any], data_root: Path
) -> None:
    rows = wikitext_rows((data_root / "wikitext-2-raw-v1" / "test.txt").read_text(encoding="utf-8"))[:120]
    assert_equals_the_harness(*loaded, Dataset("wikitext", rows, tuple(map(str, range(120))), "test"))


@torch.inference_mode()
def test_sliding_preset_equals_the_transformers_recipe(loaded: tuple[Any, Any]) -> None:
    """The recipe of transformers' perplexity guide, its losses weighted by the tokens they average."""
    model, tokenizer = loaded
    dataset = stdlib_dataset()
    ids = tokenizer("\n\n".join(dataset.rows), return_tensors="pt", verbose=False).input_ids
    total, count, scored_to = 0.0, 0, 0
    for begin in range(0, ids.shape[1], 1024):
        end = min(begin + 2048, ids.shape[1])
        targets = ids[:, begin:end].clone()
        targets[:, : scored_to - begin] = -100
        num_targets = int((targets[:, 1:] != -100).sum())
        total += float(model(ids[:, begin:end], labels=targets).loss) * num_targets
        count += num_targets
        scored_to = end
        if end == ids.shape[1]:
            break
    plan, blocks = score(model, tokenizer, dataset, "sliding")
    assert plan.card.num_scored_tokens == count == ids.shape[1] - 1
    assert perplexity(blocks).value == pytest.approx(math.exp(total / count), rel=1e-4)


@torch.inference_mode()
def test_documents_preset_equals_the_mean_of_the_models_own_losses(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    dataset = stdlib_dataset()
    losses = []
    for text in dataset.rows:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=1024).input_ids
        losses.append(float(model(ids, labels=ids).loss))
    _, blocks = score(model, tokenizer, dataset, "documents")
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity(blocks, "documents").value == pytest.approx(expected, rel=1e-4)
