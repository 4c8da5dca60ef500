"""What the house tests ask of the checkout: where it is, and which files belong to it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {
    "kvstore-server": ROOT,
    "kvstore-proto": ROOT / "proto",
    "kvstore-client": ROOT / "client",
    "kvstore-chaos": ROOT / "chaos",
}
PACKAGES = {"kvstore": ROOT, "kvproto": ROOT / "proto", "kvclient": ROOT / "client", "kvchaos": ROOT / "chaos"}
_NOT_OURS = {
    ".git",
    ".venv",
    ".cache",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "_build",
    "build",
    "dist",
}


@cache
def files() -> tuple[Path, ...]:
    """Every file that is committed or would be, sorted; without git (an unpacked archive) everything but what builds leave."""
    asked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if asked.returncode == 0:
        names = (ROOT / name for name in asked.stdout.decode().split("\0") if name)
    else:
        names = (path for path in ROOT.rglob("*") if not _NOT_OURS & set(path.relative_to(ROOT).parts))
    return tuple(sorted(path for path in names if path.is_file()))


def text_of(path: Path) -> str | None:
    """The file's text, or None when it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
