"""Run a job in a process of its own on this machine.

A process each makes a peak of memory the job's own, and turns a crash or an out-of-memory kill into
a reason instead of the end of the run.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from bitdraft.errors import UserError
from bitdraft.schema.records import Status

Event = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    status: Status
    reason: str
    detail: str


def run_job(target: str, payload: Any, on_event: Callable[[Event], None]) -> Failure | None:
    """Run `module:function` on a JSON payload; every event it emits reaches `on_event`.

    Returns None when the job ended well, else why it did not. A `UserError` in the job is raised
    here. On an interrupt the job is killed before the interrupt goes on.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "bitdraft.runs.executors.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            process_group=0,  # a Ctrl-C reaches the parent alone, which ends the job
        )
        try:
            failure = _converse(process, {"target": target, "payload": payload}, on_event)
            process.wait()
        finally:
            process.kill()
            process.wait()
        return failure or _ending(process.returncode, errors)


def _converse(
    process: subprocess.Popen[str], job: dict[str, Any], on_event: Callable[[Event], None]
) -> Failure | None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        json.dump(job, process.stdin)
        process.stdin.close()
    except BrokenPipeError:
        return None
    failure = None
    for line in process.stdout:
        if not line.endswith("\n"):
            break  # the job died while writing
        event = json.loads(line)
        if event["event"] == "user_error":
            raise UserError(event["field"], event["value"], event["problem"], event["remedy"])
        if event["event"] == "error":
            failure = Failure(event["status"], event["reason"], event["traceback"])
        else:
            on_event(event)
    return failure


def _ending(returncode: int, errors: IO[str]) -> Failure | None:
    if returncode == 0:
        return None
    errors.seek(0)
    detail = errors.read()[-4000:]
    if returncode == -signal.SIGKILL:
        return Failure("oom", "killed by the system, most likely for lack of memory", detail)
    how = signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"
    last = detail.strip().splitlines()[-1:] or [""]
    return Failure("failed", f"the process ended with {how}. {last[0]}".strip(), detail)
