"""What the long run consists of, and what of it still stands: interpreters, parts, stamps, tally. long_run.py runs it.

A part is the long tier of one folder below tests/ on the project's own environment, or of one file of a slow folder; or the whole
quick suite on another supported Python. Each takes minutes, because one that is interrupted starts anew. A part that passed leaves
a stamp with the digest of all sources; it counts until any source changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

SUPPORTED = ((3, 11), (3, 12), (3, 13))
SOURCES = (
    "kvstore",
    "proto",
    "client",
    "chaos",
    "tests",
    "docs",
    "README.md",
    "Makefile",
    "pyproject.toml",
    "requirements-dev.in",
    "requirements-dev.txt",
)
BY_FILE = ("integration", "laws")
"""Folders whose files are parts of their own."""
COVERED = ("core", "laws", "transcripts")
"""Folders that are there to test kvstore/core. Only in them is its coverage recorded: that more than doubles the time of what runs
in the core, and what other tests execute of it they need not have checked."""
NAME_WIDTH = 32
_LEFT_BEHIND = {"__pycache__", "_build"}

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """One step of the long run: `target` below the checkout on `python` ("own", or a version for which an environment is made).
    `group` is the folder that a part of one file belongs to, else the name itself."""

    name: str
    target: str
    tier: str
    python: str = "own"
    group: str = ""

    @property
    def dist(self) -> str:
        """How xdist shares it out: a folder file by file, so that fixtures of a module are made once; a file test by test."""
        return "load" if self.target.endswith(".py") else "loadfile"

    @property
    def covered(self) -> bool:
        """Whether it counts for the core's coverage."""
        return self.python == "own" and self.group in COVERED


@dataclass(frozen=True, slots=True)
class Result:
    """How a part ended. `resumed`: it passed in an earlier run of the same sources; `cut_off`: the time was over first."""

    passed: int
    failed: int
    skipped: int
    seconds: float
    ok: bool
    resumed: bool = False
    cut_off: bool = False


def digest_of(root: Path, names: Sequence[str] = SOURCES) -> str:
    """One hash of the paths and contents of all sources."""
    total = hashlib.sha256()
    for path in sorted(path for name in names for path in _files_below(root / name)):
        total.update(str(path.relative_to(root)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files_below(place: Path) -> Iterable[Path]:
    if place.is_file():
        return [place]
    return (path for path in place.rglob("*") if path.is_file() and not _LEFT_BEHIND & set(path.parts))


def version_of(python: Path) -> Version | None:
    """The version an interpreter reports, or None when it does not start (a version manager's empty shim, say)."""
    command = [str(python), "-c", "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return (int(words[0]), int(words[1])) if done.returncode == 0 and len(words) == 2 else None


def find_pythons(path: str, home: Path, ask: Callable[[Path], Version | None] = version_of) -> dict[Version, Path]:
    """The first interpreter of each supported version that starts: on `path`, else among those pyenv keeps under `home`."""
    found: dict[Version, Path] = {}
    for version in SUPPORTED:
        name = f"python{version[0]}.{version[1]}"
        on_path = [Path(folder) / name for folder in path.split(os.pathsep) if folder]
        kept = sorted((home / ".pyenv" / "versions").glob(f"{version[0]}.{version[1]}.*/bin/python"), reverse=True)
        for candidate in [*on_path, *kept]:
            if shutil.which(candidate) and ask(candidate) == version:
                found[version] = candidate
                break
    return found


def parts_of(root: Path, own: Version, pythons: Iterable[Version]) -> list[Part]:
    """The long tier folder by folder, then the quick suite on every other Python."""
    tests = root / "tests"
    parts: dict[str, Part] = {}
    for path in sorted(path for path in tests.rglob("test_*.py") if path.parent != tests):
        folder = path.relative_to(tests).parts[0]
        name, target = folder, tests / folder
        if folder in BY_FILE:
            name, target = f"{folder}-{path.stem.removeprefix('test_')}", path
        assert name not in parts or parts[name].target == str(target.relative_to(root)), f"{path} has a namesake"
        parts[name] = Part(name=name, target=str(target.relative_to(root)), tier="long", group=folder)
    for label in [f"{major}.{minor}" for major, minor in sorted(pythons) if (major, minor) != own]:
        parts[f"python-{label}"] = Part(name=f"python-{label}", target="tests", tier="quick", python=label, group=f"python-{label}")
    return list(parts.values())


class Stamps:
    """The parts that passed, a file each under `folder`; a stamp of other sources does not count."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        self._digest = digest

    def read(self, part: Part) -> Result | None:
        """The result of a part that has passed with these very sources, or None."""
        try:
            kept = json.loads((self._folder / f"{part.name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if kept.pop("digest", None) != self._digest:
            return None
        return Result(**kept | {"resumed": True})

    def write(self, part: Part, result: Result) -> None:
        """Keeps the result of a part that passed; one that did not is run again."""
        if result.ok:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"digest": self._digest} | asdict(result))
            (self._folder / f"{part.name}.json").write_text(text, encoding="utf-8")


def read_report(path: Path, *, seconds: float, ok: bool) -> Result:
    """The counts of a junit report; none when the run ended before it wrote one, and then it is not `ok`."""
    try:
        suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return Result(passed=0, failed=0, skipped=0, seconds=seconds, ok=False)
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return Result(passed=tests - failed - skipped, failed=failed, skipped=skipped, seconds=seconds, ok=ok and not failed)


def tally(results: dict[Part, Result | None], absent: Sequence[Version]) -> list[str]:
    """The closing table: a line a part (None: not reached), the sum, and the Pythons that were not found."""
    lines = [f"{'part':<{NAME_WIDTH}}{'tier':<7}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for part, result in results.items():
        if result is None:
            lines.append(f"{part.name:<{NAME_WIDTH}}{part.tier:<7}not run")
            continue
        remark = "" if result.ok else "  CUT OFF" if result.cut_off else "  FAILED"
        remark = "  (earlier run)" if result.resumed else remark
        counts = f"{result.passed:>8}{result.failed:>8}{result.skipped:>9}{result.seconds:>9.0f}"
        lines.append(f"{part.name:<{NAME_WIDTH}}{part.tier:<7}{counts}{remark}")
    ended = [result for result in results.values() if result is not None]
    passed, failed, skipped = (sum(getattr(result, name) for result in ended) for name in ("passed", "failed", "skipped"))
    lines.append(f"{'sum':<{NAME_WIDTH + 7}}{passed:>8}{failed:>8}{skipped:>9}{sum(result.seconds for result in ended):>9.0f}")
    lines += [f"python {major}.{minor}: not found on this machine, not run" for major, minor in absent]
    return lines
