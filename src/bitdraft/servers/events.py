"""Server-sent events (WHATWG HTML, 9.2.6) out of pieces of bytes as a network cuts them."""

from __future__ import annotations

import re

LARGEST_EVENT = 1 << 24
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class EventStream:
    """Bytes in, the data of whole events out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes. Raises `ValueError` for one that has no end."""
        *whole, self._rest = _END.split(self._rest + piece)
        if len(self._rest) > LARGEST_EVENT:
            raise ValueError(f"an event of more than {LARGEST_EVENT} bytes")
        return [data for event in whole if (data := _data_of(event))]

    def end(self) -> list[bytes]:
        """What is left where a stream ends: an event whose blank line is missing."""
        rest, self._rest = self._rest, b""
        return [data] if (data := _data_of(rest)) else []


def _data_of(event: bytes) -> bytes:
    """Lines of data joined; comments (keep-alive) and other fields are no data."""
    lines = [line for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
