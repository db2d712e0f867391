"""The child's side: read a job from standard input, run it, write events as JSON lines.

Events go to the original standard output; whatever the job prints goes to standard error, so that
a library's chatter cannot damage them.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

from bitdraft.errors import UserError, one_line


def classify(error: BaseException) -> str:
    """`oom`, `unsupported`, `overflow` or `failed`, from what torch and the engine raise."""
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"
    if "can't allocate memory" in text or "not enough memory" in text:
        return "oom"
    if isinstance(error, NotImplementedError) or "not implemented for" in text:
        return "unsupported"
    return "overflow" if type(error).__name__.startswith("NonFinite") else "failed"


def main() -> int:
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(kind: str, **fields: Any) -> None:
        events.write(json.dumps({"event": kind, **fields}) + "\n")
        events.flush()

    job = json.load(sys.stdin)
    try:
        module, _, function = job["target"].partition(":")
        getattr(import_module(module), function)(job["payload"], emit)
    except UserError as error:
        emit("user_error", **error.as_dict())
    except Exception as error:  # the border of the process: every failure becomes a row with a reason
        reason = f"{type(error).__name__}: {one_line(error)}"
        emit("error", status=classify(error), reason=reason, traceback=traceback.format_exc())
    return 0


if __name__ == "__main__":
    sys.exit(main())
