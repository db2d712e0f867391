"""A repository of the hub as a folder: the files that are needed of it, and no others."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.config import ModelConfig
from bitdraft.config.model import gguf_tag
from bitdraft.errors import UserError, one_line
from bitdraft.inputs.files import read_object
from bitdraft.inputs.weight_files import INDEX, PICKLES, SINGLE, shards_of

_SIDE_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")


@dataclass(frozen=True)
class Snapshot:
    """A repository's folder in the cache. `offline` is why the hub was not asked, where it wasn't."""

    folder: Path
    revision: str
    offline: str | None = None


def download(config: ModelConfig, field: str) -> Snapshot:
    """Fetch configuration, tokenizer, and of the weights one set; where the hub cannot be reached, what is
    cached. Raises `UserError`."""
    name = config.model
    with _hub_errors(name, config.revision, field):
        names, error = _names(name, config.revision)
        if names is None:
            folder = _cached(name, config.revision, error)
            return Snapshot(folder, folder.name, _why(error))
        own = [one for one in names if "/" not in one]
        wanted = _small(own)
        if SINGLE not in own and INDEX in own:
            folder = _fetch(name, config.revision, [INDEX])
            wanted += shards_of(read_object(folder / INDEX, name, field), name, field)
        else:
            wanted += _weights(own, allow_pickle=config.allow_pickle)
        folder = _fetch(name, config.revision, wanted)
        return Snapshot(folder, folder.name)


def download_tokenizer(name: str, field: str) -> Path:
    """Fetch a repository's small files alone. Raises `UserError`."""
    with _hub_errors(name, None, field):
        names, error = _names(name, None)
        if names is None:
            return _cached(name, None, error)
        return _fetch(name, None, _small([one for one in names if "/" not in one]))


def download_gguf(config: ModelConfig, field: str) -> Snapshot:
    """Fetch the file that `hub/repo/FILE.gguf` or `hub/repo:Q4_K_M` means, with all its parts; where the hub
    cannot be reached, what is cached of it. The snapshot's `folder` is the file. Raises `UserError`."""
    name, tag = config.model, gguf_tag(config.model)
    repository = name.partition(":")[0] if tag else "/".join(name.split("/")[:2])
    with _hub_errors(name, config.revision, field):
        names, error = _names(repository, config.revision)
        cached = None
        if names is None:
            cached = _cached(repository, config.revision, error)
            names = [str(path.relative_to(cached)) for path in cached.rglob("*.gguf")]
        wanted = _gguf_names(names, tag, name.split("/", 2)[-1])
        if not wanted:
            found = sorted(one for one in names if one.endswith(".gguf"))
            known = f" (it has {', '.join(found)})" if found else ""
            problem = f"{repository} has no such GGUF file{known}"
            raise UserError(field, name, problem, "Name one of its files")
        folder = cached or _fetch(repository, config.revision, wanted)
        return Snapshot(folder / wanted[0], folder.name, _why(error))


def _gguf_names(names: Sequence[str], tag: str | None, file: str) -> list[str]:
    """The files that are meant: one, or all parts of a split one."""
    if tag is None:
        first = [one for one in names if one == file]
    else:
        ending = re.compile(rf"(^|[-./]){re.escape(tag)}(-00001-of-\d{{5}})?\.gguf$", re.IGNORECASE)
        first = sorted(one for one in names if ending.search(one))[:1]
    if not first:
        return []
    stem = re.sub(r"-00001-of-\d{5}\.gguf$", "", first[0])
    parts = [one for one in names if re.fullmatch(rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}\.gguf", one)]
    return sorted(parts) if first[0] in parts else first


def _names(repository: str, revision: str | None) -> tuple[list[str] | None, Exception | None]:
    """The repository's files; None where the hub cannot be reached, and why."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(repository, revision=revision)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise
    except Exception as error:  # httpx and the hub's client have no common base
        return None, error
    return [one.rfilename for one in found.siblings or ()], None


def _why(error: Exception | None) -> str | None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if error is None:
        return None
    return "offline mode is on" if isinstance(error, OfflineModeIsEnabled) else one_line(error, 160)


def _cached(repository: str, revision: str | None, unreachable: Exception | None) -> Path:
    """What is there of a repository where the hub cannot be reached."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _fetch(repository, revision, (), cached=True)
    except LocalEntryNotFoundError as error:
        raise error from unreachable


def _fetch(repository: str, revision: str | None, names: Sequence[str], *, cached: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(one) for one in names] or None
    # by the name of the revision and not its commit: only so is it found again without the hub
    return Path(
        snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=cached)
    )


@contextlib.contextmanager
def _hub_errors(name: str, revision: str | None, field: str) -> Iterator[None]:
    """What the hub answers as `UserError`."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        remedy = "Accept its terms on the hub and log in with: hf auth login"
        raise UserError(field, name, "is gated on the hub", remedy) from error
    except RevisionNotFoundError as error:
        raise UserError("revision", revision, f"{name} has no such revision", "Check it") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        remedy = "Check the spelling, log in for a private model, or use demo/target or a local folder"
        raise UserError(field, name, "no such model on the hub or folder here", remedy) from error
    except UserError:
        raise
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        problem = f"the hub cannot be reached and nothing is cached ({one_line(cause or error, 160)})"
        remedy = "Check the network, a proxy and HF_ENDPOINT, or use demo/target or a local folder"
        raise UserError(field, name, problem, remedy) from error
    except Exception as error:
        remedy = "Try again: finished files are kept"
        raise UserError(field, name, f"download failed ({one_line(error)})", remedy) from error


def _small(names: Sequence[str]) -> list[str]:
    """Configuration, tokenizer and code."""
    skipped = (INDEX, *PICKLES)
    return [
        name
        for name in names
        if name not in skipped and any(fnmatch.fnmatchcase(name, pattern) for pattern in _SIDE_FILES)
    ]


def _weights(names: Sequence[str], *, allow_pickle: bool) -> list[str]:
    """The single file, or pickles where there is nothing else and they are allowed."""
    if SINGLE in names:
        return [SINGLE]
    safe = [name for name in names if name.endswith(".safetensors")]
    if safe or not allow_pickle:
        return []
    return [name for name in names if fnmatch.fnmatchcase(name, "pytorch_model*.bin*")]
