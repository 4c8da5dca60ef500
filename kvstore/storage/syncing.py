"""How what was written to a file is made durable."""

from __future__ import annotations

import os

sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no such thing
"""Takes a descriptor: what was written to its file, and its length, are durable when this returns. Raises `OSError`."""
