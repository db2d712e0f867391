"""The functions that users call: measure, recommend, carry out a matrix, compare.

Each takes settings as keywords, or a configuration, and with them those of `RunOptions`: where the run is
kept (`output`), how it goes on (`fresh`, `retry_failed`, `mix_machines`), and where its cells run
(`executor`, `devices`, `cell_timeout_s`). All raise `UserError` for a request that cannot be carried out,
with `result` where something had been measured before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

from bitdraft.compare.compare import compare_folders
from bitdraft.compare.in_turn import ROUNDS, compare_in_turn
from bitdraft.config import (
    PrecisionConfig,
    RecommendConfig,
    ServeBenchConfig,
    SpecDecodeConfig,
    make_config,
)
from bitdraft.config.base import Config
from bitdraft.config.keywords import (
    PrecisionKeywords,
    RecommendKeywords,
    SpecDecodeKeywords,
    explained,
)
from bitdraft.config.running import RunOptions
from bitdraft.config.serving import CertifyConfig
from bitdraft.errors import UserError
from bitdraft.matrix.carry_out import Outcome, carry_out
from bitdraft.matrix.read import Wanted, read_matrix
from bitdraft.precision.evaluate import Progress as PrecisionProgress
from bitdraft.precision.evaluate import measure_precision
from bitdraft.present import (
    comparison_files,
    precision_files,
    recommendation_files,
    serving_files,
    sweep_files,
)
from bitdraft.recommend.search import Progress as SearchProgress
from bitdraft.recommend.search import Publishers, search_deployment
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.io import prepare_output
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.results import Result
from bitdraft.schema.serving import Certificate, ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult
from bitdraft.serving.certify import certify
from bitdraft.serving.evaluate import Progress as LoadProgress
from bitdraft.serving.evaluate import measure_servers
from bitdraft.serving.imports import import_results as read_files
from bitdraft.spec_decode.evaluate import Progress as SweepProgress
from bitdraft.spec_decode.evaluate import measure_spec_decode

_C = TypeVar("_C", bound=Config)


def _both(
    kind: type[_C], config: _C | None, model: object, settings: Mapping[str, Any]
) -> tuple[_C, RunOptions]:
    """Keywords as a configuration and as options of the run."""
    running = {name: value for name, value in settings.items() if name in RunOptions.model_fields}
    asked = {name: value for name, value in settings.items() if name not in running}
    options = make_config(RunOptions, running)
    if isinstance(model, Config):
        raise UserError("model", type(model).__name__, "a configuration, and no model", "Give it as config=…")
    if config is None:
        return make_config(kind, asked if model is None else {"model": model, **asked}), options
    if model is not None or asked:
        names = ", ".join(["model"] * (model is not None) + list(asked))
        raise UserError("config", names, "settings beside a config", "Give either a config or settings")
    if not isinstance(config, kind):
        raise UserError("config", type(config).__name__, "another kind", f"Give a {kind.__name__}")
    return config, options


@explained(PrecisionKeywords, PrecisionConfig, RunOptions)
def evaluate_precision(
    model: str | None = None,
    *,
    config: PrecisionConfig | None = None,
    on_progress: PrecisionProgress | None = None,
    **settings: Unpack[PrecisionKeywords],
) -> PrecisionResult:
    """Measure a causal language model at several precisions.

    `model` is demo/NAME, a checkpoint folder or a hub id (default: demo/target). Settings are keywords, or a
    `PrecisionConfig` as `config`. With `output`, that folder is the run's: precision.json, .csv, .md and
    precision_benchmark_2rows.png are written there at the end, and the same call goes on with what is
    missing. Raises `UserError` for a request that cannot be carried out; what goes wrong at one precision
    becomes that row's status. An interrupt (`Interrupted`) keeps what was measured.
    """
    found, options = _both(PrecisionConfig, config, model, settings)
    return measure_precision(found, options, precision_files.publish, on_progress)


@explained(SpecDecodeKeywords, SpecDecodeConfig, RunOptions)
def evaluate_spec_decode(
    model: str | None = None,
    *,
    config: SpecDecodeConfig | None = None,
    on_progress: SweepProgress | None = None,
    **settings: Unpack[SpecDecodeKeywords],
) -> SpecDecodeResult:
    """Measure a target with draft models (or its prompt's own n-grams) at several K.

    `model` is the target: demo/NAME, a checkpoint folder or a hub id (default: demo/target). Settings are
    keywords, or a `SpecDecodeConfig` as `config`. With `output`, that folder is the run's:
    spec_decode_<dataset>.json, .csv, .md and the charts are written there at the end, with `plan`
    spec_decode_plan_<dataset> and its chart, and the same call goes on with what is missing. Raises
    `UserError` for a request that cannot be carried out; what goes wrong with one draft becomes its rows'
    status. An interrupt (`Interrupted`) keeps the prompts that were finished by all rows.
    """
    found, options = _both(SpecDecodeConfig, config, model, settings)
    return measure_spec_decode(found, options, sweep_files.publish, on_progress)


@explained(RecommendKeywords, RecommendConfig, RunOptions)
def recommend_deployment(
    model: str | None = None,
    *,
    config: RecommendConfig | None = None,
    on_progress: SearchProgress | None = None,
    **settings: Unpack[RecommendKeywords],
) -> Recommendation:
    """Say what to deploy: a precision, and a draft with its K or none.

    `model` is the target: demo/NAME, a checkpoint folder or a hub id (default: demo/target). Settings are
    keywords, or a `RecommendConfig` as `config`. With `output`, recommendation.json and .md are written
    there, and what is measured is in runs of their own below it. Raises `UserError` for a request that cannot
    be carried out. An interrupt (`Interrupted`) keeps what is finished.
    """
    found, options = _both(RecommendConfig, config, model, settings)
    publishers = Publishers(precision_files.publish, sweep_files.publish, recommendation_files.publish)
    return search_deployment(found, options, publishers, on_progress)


def bench_servers(
    servers: str | Sequence[str] = (),
    *,
    config: ServeBenchConfig | None = None,
    on_progress: LoadProgress | None = None,
    **settings: Any,
) -> ServingResult:
    """Measure running servers of the OpenAI interface beside each other, prompt by prompt.

    `servers` are NAME=URL, that without speculation first; settings are the fields of `ServeBenchConfig` and
    of `RunOptions`. With `output`, serving.json, .csv, .md and .png are written there, and the same call goes
    on with the requests that are missing. Raises `UserError` for servers that don't answer; a request that
    fails is counted in its row.
    """
    asked = {"servers": servers, **settings} if config is None else settings
    found, options = _both(ServeBenchConfig, config, None, asked)
    return measure_servers(found, options, serving_files.publish, on_progress)


def certify_server(
    servers: str | Sequence[str] = (),
    *,
    config: CertifyConfig | None = None,
    output: str | Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    **settings: Any,
) -> Certificate:
    """Whether a server that speculates gives what the plain one gives (`is_lossless`).

    `servers` are NAME=URL of the plain one and of the other; settings are the fields of `CertifyConfig`. With
    `output`, certificate.json and .md are written there, and an interrupted one (`Interrupted`) goes on.
    Raises `UserError` for servers that don't answer.
    """
    asked = {"servers": servers, **settings} if config is None else settings
    found, _ = _both(CertifyConfig, config, None, asked)
    folder = None if output is None else Path(output)
    if folder is not None:
        prepare_output(folder)
    return serving_files.publish_certificate(certify(found, folder, on_progress), folder)


def import_results(files: Sequence[str | Path], *, output: str | Path | None = None) -> ServingResult:
    """Read results of AIPerf, `vllm bench serve`, llama.cpp's `speed_bench.py` or GuideLLM.

    `files` are FILE or NAME=FILE, that of the baseline first: requests are paired by their places. With
    `output`, serving.json, .csv, .md and .png are written there. Nothing is judged: they were not measured in
    turn. Raises `UserError` for a file that is of none of these tools, or that lacks single requests.
    """
    folder = None if output is None else Path(output)
    if folder is not None:
        prepare_output(folder)
    return serving_files.publish(read_files(files), folder)[0]


def compare_results(a: str | Path, b: str | Path, *, output: str | Path | None = None) -> Comparison:
    """Compare the results in folder `b` with those in folder `a`, row by row; every ratio is B over A.

    With `output` set, comparison.json, .csv, .md and .png are written there. Raises `UserError` where a
    folder holds no result, a file is damaged, or nothing in the two can be compared. Of several files, those
    that can't be compared are in `refused`.
    """
    folder = None if output is None else Path(output)
    if folder is not None:
        prepare_output(folder)
    return comparison_files.publish(compare_folders(Path(a), Path(b)), folder)


def measure_in_turn(
    a: str | Path,
    b: str | Path,
    *,
    output: str | Path,
    rounds: int = ROUNDS,
    python_a: str | None = None,
    python_b: str | None = None,
    data_root: str | Path | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Comparison:
    """Measure again what the folders `a` and `b` have results of, with the same settings and in turn
    (A B B A), `rounds` times each, and compare that.

    Every measurement is a command in processes of its own, by the Python named for its side (by default this
    one), and is kept below `output` (`a-1`, `b-1`, `b-2`, …); the same call goes on with what is missing.
    Intervals hold the noise between rounds, too. A sweep of a recommendation is measured with all of its
    drafts and K. Raises `UserError` as `compare_results` does, and for a command that cannot be carried out.
    """
    folder = Path(output)
    prepare_output(folder)
    more = [] if data_root is None else ["--data-root", str(data_root)]
    sides, pythons = (Path(a), Path(b)), (python_a, python_b)
    found = compare_in_turn(
        sides, folder, num_rounds=rounds, pythons=pythons, more=more, on_step=on_step or (lambda _: None)
    )
    return comparison_files.publish(found, folder)


def run_matrix(
    matrix: str | Path | Sequence[Wanted],
    *,
    output: str | Path,
    on_run: Callable[[int, Wanted], None] | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Carry out all runs of a matrix file, each in a folder of its own below `output`.

    The same call goes on with what is missing. A run that cannot be carried out becomes its `Outcome`'s
    `error` and does not end the others. Keywords are the fields of `RunOptions`. Raises `UserError` for a
    file that is no matrix.
    """
    wanted = read_matrix(Path(matrix)) if isinstance(matrix, str | Path) else matrix
    return carry_out(wanted, make_config(RunOptions, settings), Path(output), measure_run, on_run)


def measure_run(
    wanted: Wanted, options: RunOptions, on_progress: Callable[..., None] | None = None
) -> Result:
    """One run of a matrix; `on_progress` is what its command takes."""
    ways: dict[str, Callable[..., Result]] = {
        "precision": evaluate_precision,
        "spec-decode": evaluate_spec_decode,
        "recommend": recommend_deployment,
    }
    return ways[wanted.command](config=wanted.config, on_progress=on_progress, **dict(options))
