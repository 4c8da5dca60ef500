"""How far a long transfer has come, in a small file beside the data, so that the same command continues after an interruption.

A note is only good for the very job it was made by: it names the cluster, the namespace and the data, and one of another job is not
continued but refused, since continuing it would skip what was never transferred.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kvproto.errors import BadRequest

SUFFIX = ".kv-progress"


@dataclass(frozen=True, slots=True)
class Progress:
    """`job` identifies what is transferred where; `offset_bytes` and `lines` are done, counted from the beginning of the file."""

    job: str
    offset_bytes: int = 0
    lines: int = 0


class ProgressFile:
    """The note beside `data`. Written by rename, so that it is whole or absent whenever the process ends."""

    def __init__(self, data: Path) -> None:
        self.path = data.with_name(data.name + SUFFIX)

    def read(self) -> Progress | None:
        """The note that is there, or None. Raises `BadRequest` if it cannot be understood."""
        try:
            row = json.loads(self.path.read_text(encoding="utf-8"))
            return Progress(**{field.name: row[field.name] for field in fields(Progress)})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise BadRequest(f"{self.path} is no progress note of kv; remove it, or start over with --fresh") from error

    def resume(self, job: str, *, fresh: bool) -> Progress:
        """Where to continue `job`: where the note says, or at the beginning. Raises `BadRequest` if the note is of another job."""
        found = None if fresh else self.read()
        if found is None:
            return Progress(job)
        if found.job != job:
            raise BadRequest(
                f"{self.path} is of another transfer ({found.job}, not {job}); remove it, or start over with --fresh",
                subject=str(self.path),
            )
        return found

    def write(self, progress: Progress) -> None:
        """Replaces the note."""
        scratch = self.path.with_name(self.path.name + ".new")
        scratch.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        os.replace(scratch, self.path)

    def remove(self) -> None:
        """The transfer is complete."""
        self.path.unlink(missing_ok=True)
