"""Records and results, and their JSON: the border between measuring and showing.

Schema history:
  1  first version (kinds "precision" and "spec_decode")
  2  spec_decode: `batches`, the rows of batch sizes above 1; without them, version 1 is read as it was
  3  a third kind, "recommendation"; the other two are read as they were
"""

from __future__ import annotations

SCHEMA_VERSION = 3
