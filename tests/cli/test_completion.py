"""What the Tab key offers: asked of the shells themselves, on real nodes."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kvclient.cli.completions import TIMEOUT_S as ANSWER_TIMEOUT_S
from kvclient.cli.completions import TIMEOUT_VARIABLE
from kvclient.cli.options import LEVELS
from tests.support.kv_processes import KV, TIMEOUT_S, DevCluster, environment, run_kv

# Does what bash does when Tab is pressed behind $LINE, and prints what it is given.
ASK_BASH = r"""
. "$SCRIPT"
compopt() { echo "compopt $*"; }
COMP_LINE=$LINE COMP_POINT=${#LINE}
_kv_completion "$KV_COMMAND"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`kv` as a program, as a completion script calls it; the script for bash lies beside it."""
    path = tmp_path_factory.mktemp("bin") / "kv"
    path.with_name("script").write_bytes(run_kv("completion", "bash").stdout)
    path.write_text(f'#!/bin/sh\nexec {KV[0]} -m kvclient.cli.main "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def bash(command: Path) -> Callable[..., list[str]]:
    def ask(line: str, **variables: str) -> list[str]:
        variables = {TIMEOUT_VARIABLE: "30", **variables}  # a busy machine has not always 200 ms to spare
        told = environment(LINE=line, SCRIPT=str(command.with_name("script")), KV_COMMAND=str(command), **variables)
        done = subprocess.run(["bash", "-c", ASK_BASH], env=told, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        assert done.stderr == ""
        return [found for found in done.stdout.splitlines() if found]

    return ask


def test_bash_completes_commands_and_options(bash: Callable[..., list[str]]) -> None:
    assert bash("kv st") == ["status"]
    assert set(bash("kv d")) == {"decr", "del", "dump", "dev", "demo", "dial"}
    assert bash("kv put k --tt") == ["--ttl"]
    assert bash("kv get --level ") == [*LEVELS]
    assert bash("kv dev re") == ["restart", "resume"]
    assert bash("kv load ") == ["compopt -o default"]


def test_bash_completes_keys_also_with_colons_blanks_and_quotes(bash: Callable[..., list[str]], cluster: DevCluster) -> None:
    for key in ("tab:one", "tab:two words", "tabs", "tab\x01control"):
        assert run_kv("--at", cluster.at, "put", key, "v").returncode == 0
    at = {"KV_AT": cluster.at}
    # In the place of what it takes for the last word: bash cuts at colons.
    assert bash("kv get tab:", **at) == ["one", r"two\ words"]
    assert bash("kv get tab:two\\ w", **at) == [r"two\ words"]
    assert bash('kv get "tab:t', **at) == ["tab:two words"]
    assert bash("kv scan tabs", **at) == ["tabs"]
    assert bash(f"kv --at {cluster.at} del tabs") == ["tabs"]


def test_bash_completes_namespaces_and_nodes(bash: Callable[..., list[str]], cluster: DevCluster) -> None:
    assert bash("kv get -n de", KV_AT=cluster.at) == ["default"]
    assert bash("kv dev stop n", KV_AT=cluster.at) == ["n1", "n2", "n3"]
    assert bash(f"kv dev stop --data {cluster.root} n", KV_AT="127.0.0.1:1") == ["n1", "n2", "n3"]


def test_without_a_cluster_nothing_is_offered_and_nothing_is_said(bash: Callable[..., list[str]]) -> None:
    assert bash("kv get a", KV_AT="127.0.0.1:1", KV_COMPLETION_TIMEOUT="") == []
    assert bash("kv get -n d", KV_AT="not an address", KV_COMPLETION_TIMEOUT="") == []


def test_a_cluster_that_does_not_answer_is_given_up_on(bash: Callable[..., list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        assert bash("kv --timeout 1000 get a", KV_AT=at, KV_COMPLETION_TIMEOUT="") == []
    assert ANSWER_TIMEOUT_S <= 0.2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it_and_is_good_syntax(shell: str, tmp_path: Path) -> None:
    done = run_kv("completion", shell)
    assert (done.returncode, done.stderr) == (0, b"")
    first, *rest = done.stdout.decode().splitlines()
    assert first.startswith(f"# kv in {shell}.") and f"kv completion {shell}" in first
    assert any("_KV_COMPLETE" in line for line in rest)
    program = shutil.which(shell)
    if program is not None:
        script = tmp_path / "script"
        script.write_bytes(done.stdout)
        assert subprocess.run([program, "-n", script], capture_output=True, check=False, timeout=TIMEOUT_S).stderr == b""


@pytest.mark.parametrize(
    ("shell", "asked", "shown"),
    [
        ("zsh", {"COMP_WORDS": "kv sta", "COMP_CWORD": "1"}, "plain\nstatus\nOne row a node"),
        ("fish", {"COMP_WORDS": "kv sta", "COMP_CWORD": "sta"}, "plain,status\tOne row a node"),
    ],
)
def test_zsh_and_fish_are_answered_with_a_line_of_help(shell: str, asked: dict[str, str], shown: str) -> None:
    told = environment(**asked, _KV_COMPLETE=f"{shell}_complete")
    done = subprocess.run(KV, env=told, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    assert done.stdout.startswith(shown)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_itself_completes(command: Path) -> None:
    told = environment(PATH=f"{command.parent}:/usr/bin:/bin")
    asked = "kv completion fish | source; complete --do-complete 'kv sta'"
    done = subprocess.run(["fish", "-c", asked], env=told, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    assert done.stdout.startswith("status")
