"""What a command says of its run's folder when it is done."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bitdraft.config.base import Config
from bitdraft.config.running import RunOptions
from bitdraft.runs.conduct import folder_of
from bitdraft.schema.manifest import read_manifest


def say_kept(console: Console, kind: str, config: Config, options: RunOptions, files: str) -> Path | None:
    """Where the run is; and if it had been finished before, since when, and how to measure anew. The
    folder."""
    folder = folder_of(kind, config, options)
    if folder is None:
        return None
    console.print(f"\nWritten to {folder}/: {files}", highlight=False, markup=False, soft_wrap=True)
    manifest = read_manifest(folder)
    if manifest is not None and manifest.shown_again:
        when = manifest.finished_utc or manifest.updated_utc
        text = f"Measured on {when}; shown again. To measure anew: the same command with --fresh."
        console.print(text, style="bold", highlight=False, markup=False, soft_wrap=True)
    return folder
