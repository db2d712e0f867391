"""`bitdraft spec-decode --batch-size`, as a user meets it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from bitdraft.cli import app
from bitdraft.schema.io import read_result
from bitdraft.schema.spec_decode import SpecDecodeResult


def test_batches_leave_table_verdict_and_files(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    size = ["--num-prompts", "6", "--max-prompt-tokens", "20", "--max-new-tokens", "12", "--device", "cpu"]
    flags = ["--draft", "ngram", "--k", "2", "--dataset", f"file:{text_file}", "--execution", "static"]
    command = ["spec-decode", str(checkpoint), *flags, *size, "--output", str(tmp_path)]
    result = CliRunner().invoke(app, [*command, "--batch-size", "1,2,3", "-v"])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    for expected in ("larger batches: groups done", "Several prompts at once", "vs. 1", "Batch 3: 2 groups"):
        assert expected in text
    assert "Larger batches: all 24 texts, those of plain decoding included, are those of batch 1." in text
    loaded = read_result(tmp_path / "spec_decode_file-story.json", SpecDecodeResult)
    assert loaded.config.batch_sizes == (1, 2, 3)
    assert [(row.batch_size, row.draft, row.k, row.status) for row in loaded.batches] == [
        (size, draft, k, "ok") for size in (2, 3) for draft, k in ((None, 0), ("ngram", 2))
    ]
    picture = tmp_path / "speculation_batches_file-story.png"
    drawn = picture.read_bytes()
    picture.unlink()
    assert CliRunner().invoke(app, ["plot", str(tmp_path)]).exit_code == 0
    assert picture.read_bytes() == drawn
