"""Peak memory, in GiB."""

from __future__ import annotations

GIB = 2**30
