"""`make test-long`: every part of long_plan.py, going on where an earlier run stopped, then the core's coverage and a tally.

Ends with 0 when every part passed and the branch coverage of kvstore/core reaches the `fail_under` of pyproject.toml, else with 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tests.house.long_plan import SUPPORTED, Part, Result, Stamps, digest_of, find_pythons, parts_of, read_report, tally
from tests.house.repository import ROOT

CACHE = ROOT / ".cache" / "test-long"
TEST_TIMEOUT_S = 1500
NO_TESTS = 5
CUT_OFF = 124
ENDING = (signal.SIGTERM, signal.SIGINT)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def run_bounded(command: list[str], *, env: dict[str, str], seconds_max: float) -> int:
    """The command's exit code. It runs in a session of its own, which is ended as a whole when the time is over
    (then: `CUT_OFF`)."""
    # An end that is told us while the process is being made waits until we know what there is to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, start_new_session=True, preexec_fn=_unblock)  # noqa: PLW1509
    try:
        _unblock()
        return process.wait(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        return CUT_OFF
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def environment_of(part: Part, pythons: dict[str, Path], seconds_max: float) -> str | None:
    """The interpreter the part runs on, its environment made if need be; None when that fails."""
    if part.python == "own":
        return sys.executable
    folder = CACHE / part.name
    command = ["make", "install", f"VENV={folder}", f"PYTHON={pythons[part.python]}"]
    code = run_bounded(command, env={}, seconds_max=seconds_max)
    return str(folder / "bin" / "python") if code == 0 else None


def run_part(part: Part, pythons: dict[str, Path], seconds_max: float) -> Result:
    """Runs one part with two workers, recording the core's coverage where that is asked for."""
    print(f"\n--- {part.name}: {part.target}, {part.tier} tier", flush=True)
    begin = time.monotonic()
    report = CACHE / "reports" / f"{part.name}.xml"
    report.unlink(missing_ok=True)
    python = environment_of(part, pythons, seconds_max)
    if python is None:
        return read_report(report, seconds=time.monotonic() - begin, ok=False)
    command = [python, "-m", "pytest", part.target, "-n", "2", "--dist", part.dist, "-q", f"--junitxml={report}"]
    command += ["-p", "no:cacheprovider"]
    if part.tier == "long":
        command.append(f"--timeout={TEST_TIMEOUT_S}")
    if part.covered:
        # The bound on coverage is for all parts together, at the end.
        command += ["--cov", "--cov-report=", "--cov-fail-under=0"]
    env = {"KV_TIER": part.tier, "COVERAGE_FILE": str(CACHE / "coverage" / part.name)}
    code = run_bounded(command, env=env, seconds_max=seconds_max - (time.monotonic() - begin))
    result = read_report(report, seconds=time.monotonic() - begin, ok=code in {0, NO_TESTS})
    return replace(result, cut_off=code == CUT_OFF)


def check_coverage(parts: Iterable[Part]) -> bool:
    """Adds up what these parts covered and prints the core's uncovered branches; False below the bound."""
    data = [path for part in parts if (path := CACHE / "coverage" / part.name).is_file()]
    if not data:
        return False
    together = CACHE / "coverage-of-all"
    together.unlink(missing_ok=True)
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "-q", "--keep", f"--data-file={together}", *map(str, data)], cwd=ROOT, check=True)
    print("\n--- branch coverage of kvstore/core", flush=True)
    report = [*coverage, "report", f"--data-file={together}", "--include=kvstore/core/*"]
    return subprocess.run(report, cwd=ROOT, check=False).returncode == 0


def end_on_sigterm() -> None:
    """Lets SIGTERM unwind as Ctrl-C does, so that what was started does not outlive us."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def main() -> int:
    """Runs what is left to run within the time, and says how everything stands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="forget what passed earlier")
    parser.add_argument("--minutes-max", type=float, default=60, help="end what runs after so long (default 60)")
    parser.add_argument("--begin-minutes-max", type=float, help="begin nothing after so long, but let what runs end (for steps)")
    parser.add_argument(
        "--only", metavar="PART", action="append", help="run only this part, or the parts of this folder; may be repeated"
    )
    options = parser.parse_args()
    end_on_sigterm()
    end = time.monotonic() + options.minutes_max * 60
    end_of_begins = min(end, time.monotonic() + (options.begin_minutes_max or options.minutes_max) * 60)
    if options.fresh:
        for name in ("stamps", "coverage", "reports"):
            shutil.rmtree(CACHE / name, ignore_errors=True)
    for name in ("coverage", "reports"):
        (CACHE / name).mkdir(parents=True, exist_ok=True)

    own = sys.version_info[:2]
    found = find_pythons(os.environ.get("PATH", ""), Path.home())
    pythons = {f"{major}.{minor}": path for (major, minor), path in found.items()}
    stamps = Stamps(CACHE / "stamps", digest_of(ROOT))
    parts = parts_of(ROOT, own, found)
    if options.only:
        parts = [part for part in parts if {part.name, part.group} & set(options.only)]
    results: dict[Part, Result | None] = dict.fromkeys(parts)
    for part in parts:
        result = stamps.read(part)
        if result is None and time.monotonic() < end_of_begins:
            result = run_part(part, pythons, end - time.monotonic())
            stamps.write(part, result)
        results[part] = result

    # A part that did not run says nothing of what it would have covered.
    recorded = [part for part in parts if part.covered]
    complete = not options.only and all(results[part] for part in recorded)
    covered = not complete or check_coverage(recorded)
    print(f"\n--- tally (long tier: Python {own[0]}.{own[1]})")
    print("\n".join(tally(results, [version for version in SUPPORTED if version != own and version not in found])))
    if any(result is None or result.cut_off for result in results.values()):
        print("the time is over: `make test-long` goes on with what is left")
    if not covered:
        print("the core's coverage is below its bound")
    return 0 if covered and all(result is not None and result.ok for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
