"""Output where the terminal's encoding lacks some of the characters: what stands for them, and no error."""

from __future__ import annotations

import codecs
import io
import sys

NAME = "bitdraft.plain"
_PLAIN = {
    **{"×": "x", "−": "-", "±": "+-", "·": "-", "…": "...", "→": "->", "Δ": "d", "≤": "<=", "≥": ">="},
    **{"★": "*", "✚": "+", "✓": "ok", "⚠": "!", "●": "*", "◆": "*", "■": "#", "□": "#"},
    **{"▲": "^", "▼": "v", "─": "-", "└": "`", "├": "|", "│": "|", "‖": "||", "α": "alpha", "≈": "~"},
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lost), error.end


def show_what_can_be_shown() -> None:
    """Let both output streams replace what their encoding lacks: `->` for an arrow, `?` for what has no plain
    form."""
    codecs.register_error(NAME, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=NAME)
