"""Which files a checkpoint's weights are in, and what their headers say: nothing is loaded."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bitdraft.config import ModelConfig
from bitdraft.errors import UserError, one_line
from bitdraft.inputs.files import AGAIN, ORIGINAL, read_object, refuse_stand_ins

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_MEASURABLE = re.compile(r"[fb][pf](16|32|64)")


def weight_files(folder: Path, config: ModelConfig, field: str) -> list[Path]:
    """The files that transformers loads: the single file, or what the index names. Raises `UserError` for
    what is missing, for what only stands for a file, and where two sets of weights lie side by side."""
    name, single, index = config.model, folder / SINGLE, folder / INDEX
    has_single = single.exists() or single.is_symlink()
    if has_single and index.exists() and _is_own_folder(config):
        problem = f"holds two sets of weights, {SINGLE} and the files that {INDEX} names"
        raise UserError(field, name, problem, "Move the set that you don't mean away")
    if has_single:
        refuse_stand_ins([single], name, field)
        return [single]
    if index.exists() or index.is_symlink():
        named = shards_of(read_object(index, name, field), name, field)
        files = [folder / shard for shard in named]
        refuse_stand_ins(files, name, field)
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise UserError(field, name, f"weight file {missing[0]} is missing", AGAIN)
        return files
    others = sorted(folder.glob("*.safetensors"))
    if others:
        problem = f"has {others[0].name} but neither {SINGLE} nor its index"
        raise UserError(field, name, problem, AGAIN)
    return _pickles(folder, config, field)


def _is_own_folder(config: ModelConfig) -> bool:
    """Of a hub's repository only one set is fetched; a cache may hold both all the same."""
    return Path(config.model).expanduser().is_dir()


def _pickles(folder: Path, config: ModelConfig, field: str) -> list[Path]:
    has_pickle = any(folder.glob("*.bin"))
    if has_pickle and config.allow_pickle:
        return []
    remedy = "Convert it to safetensors, or pass --allow-pickle if you trust its author"
    what = "has its weights as pickle only" if has_pickle else "has no safetensors weights"
    raise UserError(field, config.model, what, remedy)


def shards_of(index: Mapping[str, object], name: str, field: str) -> list[str]:
    """The files that an index names, each once, all of them names of this folder. Raises `UserError`."""
    found = index.get("weight_map")
    values: Collection[object] = found.values() if isinstance(found, dict) else ()
    shards = sorted({value for value in values if isinstance(value, str)})
    is_plain = all(isinstance(one, str) and Path(one).name == one and one.isprintable() for one in values)
    if not shards or not is_plain:
        raise UserError(field, name, f"{INDEX} names no weight files of this folder", AGAIN)
    if not isinstance(index.get("metadata"), dict):
        problem = f"{INDEX} has no metadata, without which transformers does not read it"
        raise UserError(field, name, problem, 'Add to it: "metadata": {}')
    return shards


@dataclass(frozen=True)
class StoredWeights:
    """`by_dtype` counts elements by the dtype that they are stored in; of pickles, which nobody opens here,
    nothing is known."""

    by_dtype: dict[str, int] = field(default_factory=dict)
    num_bytes: int = 0
    num_tensors: int = 0


def read_headers(files: list[Path], name: str, field: str, *, any_dtype: bool = False) -> StoredWeights:
    """What the files hold. Raises `UserError` for what is damaged, and for weights in a number format that
    can't be measured as it is, unless `any_dtype` is meant."""
    from safetensors import SafetensorError, safe_open

    counts: Counter[str] = Counter()
    num_tensors = 0
    for path in files:
        try:
            with safe_open(path, framework="numpy") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                    piece = tensors.get_slice(key)
                    num_tensors += 1
                    counts[_stored_name(piece.get_dtype())] += math.prod(piece.get_shape())
        except (SafetensorError, OSError) as error:
            problem = f"{path.name} is truncated or corrupt ({one_line(error)})"
            raise UserError(field, name, problem, AGAIN) from error
    if not any_dtype:
        _refuse_other_numbers(counts, name, field)
    return StoredWeights(dict(counts), sum(path.stat().st_size for path in files), num_tensors)


def _refuse_other_numbers(counts: Counter[str], name: str, field: str) -> None:
    """Masks and indices may lie beside weights; what weights mostly are must be floating-point."""
    most = max(counts, key=lambda dtype: counts[dtype], default="")
    if most and not _MEASURABLE.fullmatch(most):
        problem = f"has its weights stored as {most}, which is quantised already"
        raise UserError(field, name, problem, ORIGINAL)


def _stored_name(dtype: str) -> str:
    """`fp32` for safetensors' `F32`, `bf16` for `BF16`."""
    return f"fp{dtype[1:]}".lower() if dtype.startswith("F") else dtype.lower()
