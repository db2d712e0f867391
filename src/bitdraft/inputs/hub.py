"""A repository of the hub as a folder: the files that are needed of it, and no others."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.config import ModelConfig
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
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = config.model

    def fetch(names: Sequence[str], *, cached: bool = False) -> Path:
        patterns = [glob.escape(one) for one in names] or None
        # by the name of the revision and not its commit: only so is it found again without the hub
        return Path(
            snapshot_download(
                name, revision=config.revision, allow_patterns=patterns, local_files_only=cached
            )
        )

    try:
        try:
            found = HfApi().model_info(name, revision=config.revision)
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            raise
        except Exception as error:  # httpx and the hub's client have no common base
            why = "offline mode is on" if isinstance(error, OfflineModeIsEnabled) else one_line(error, 160)
            folder = fetch((), cached=True)
            return Snapshot(folder, folder.name, why)
        names = [one.rfilename for one in found.siblings or () if "/" not in one.rfilename]
        wanted = _small(names)
        if SINGLE not in names and INDEX in names:
            folder = fetch([INDEX])
            wanted += shards_of(read_object(folder / INDEX, name, field), name, field)
        else:
            wanted += _weights(names, allow_pickle=config.allow_pickle)
        folder = fetch(wanted)
        return Snapshot(folder, folder.name)
    except GatedRepoError as error:
        remedy = "Accept its terms on the hub and log in with: hf auth login"
        raise UserError(field, name, "is gated on the hub", remedy) from error
    except RevisionNotFoundError as error:
        raise UserError("revision", config.revision, f"{name} has no such revision", "Check it") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        remedy = "Check the spelling, log in for a private model, or use demo/target or a local folder"
        raise UserError(field, name, "no such model on the hub or folder here", remedy) from error
    except UserError:
        raise
    except LocalEntryNotFoundError as error:
        cause = error.__context__
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
