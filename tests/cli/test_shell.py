"""`kv shell`, piped and at a terminal, on real nodes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kvclient.cli import session as session_module
from kvclient.cli.options import Options
from kvclient.cli.session import Session
from kvclient.cli.words import escaped, last_word_start, quoted
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient
from tests.support.kv_processes import KV, DevCluster, environment, run_kv, start_kv
from tests.support.terminal import Terminal


def test_piped_lines_run_as_commands_without_a_prompt(cluster: DevCluster) -> None:
    lines = b"""put 'shell one' "two  words"  # a remark

kv get 'shell one'
get 'shell one' -o json
del 'shell one'
exit
put a b
"""
    done = run_kv("--at", cluster.at, "shell", stdin=lines)
    assert (done.returncode, done.stderr) == (0, b"")
    stored, value, row, deleted = done.stdout.decode().splitlines()
    assert stored.startswith("stored shell one (")
    assert value == "two  words"
    assert json.loads(row)["value"] == "two  words"
    assert deleted.startswith("deleted shell one (")


def test_a_piped_shell_ends_as_the_first_command_that_failed(kv: Kv, store: FakeClient) -> None:
    lines = b"put a 1\nget missing\nputt a 2\nget a\n"
    whole = kv("shell", stdin=lines)
    assert whole.code == 3
    assert whole.text.splitlines()[-1] == "1"
    assert "Did you mean 'put'?" in whole.stderr
    stopped = kv("shell", "-e", stdin=lines)
    assert (stopped.code, stopped.text.count("\n")) == (3, 1)
    assert kv("shell", stdin=b"").code == 0


def test_one_connection_is_kept_for_all_commands(kv: Kv, store: FakeClient) -> None:
    kv("shell", stdin=b"put a 1\nget a\nscan\nget a -n users\nget a --explain\n")
    assert len(store.connected) == 1
    kv("shell", stdin=b"get a\nget a --level all\nget a --level all\n")
    assert [options["level"] for options in store.connected[1:]] == [None, "all"]


def test_options_of_the_shell_hold_for_its_lines_and_end_with_a_line_that_says_otherwise(
    kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KV_NAMESPACE", "of-the-environment")
    done = kv("-n", "users", "shell", "-o", "json", stdin=b"put a 1\nput a 2 -n orders\nput b 1\nget -n orders a -o raw\n")
    assert sorted(store.namespaces["users"].cells) == [b"a", b"b"]
    assert sorted(store.namespaces["orders"].cells) == [b"a"]
    assert done.text.startswith('{"key":"a"') and done.text.endswith("2")


def test_use_chooses_a_namespace_that_exists(cluster: DevCluster) -> None:
    done = run_kv("--at", cluster.at, "shell", stdin=b"use nowhere\nuse default\nput used 1\nuse\n")
    refused, usage = done.stderr.decode().splitlines()
    assert refused == "kv: no namespace 'nowhere'; there are: default, orders"
    assert usage == "kv: use takes a namespace: use NAME"
    assert (done.returncode, done.stdout.startswith(b"stored used")) == (2, True)


def test_errors_are_as_outside(kv: Kv, store: FakeClient) -> None:
    done = kv("shell", stdin=b"get 'open\nget\nget a --levle one\nshell\nget zz -o json -r\n")
    assert done.stderr.splitlines() == [
        "kv: No closing quotation: get 'open",
        "kv: Missing argument 'KEY…'. (get --help)",
        "kv: No such option '--levle'. Did you mean '--level'? (get --help)",
        "kv: shell is for outside of the shell",
        '{"error":{"code":"BAD_REQUEST","message":"No such option \'-r\'.","retryable":false,"may_have_applied":false}}',
    ]


def test_help_lists_the_commands_and_tells_about_one(kv: Kv, store: FakeClient) -> None:
    listed = kv("shell", stdin=b"help\n").text
    assert all(f"  {name} " in listed for name in ("put", "get", "scan", "status", "use", "exit"))
    assert "  shell " not in listed
    assert kv("shell", stdin=b"help get\n").text.startswith("Usage: get [OPTIONS] KEY…")


def test_a_value_may_be_the_rest_of_the_input(kv: Kv, store: FakeClient) -> None:
    assert kv("shell", stdin=b"put a -\nget b\n\xff").code == 0
    assert [value for value, _ in store.default.cells[b"a"].values()] == [b"get b\n\xff"]


def test_codes_of_commands_of_other_distributions_are_kept(cluster: DevCluster) -> None:
    done = run_kv("shell", stdin=f"dev stop n9 --data '{cluster.root}'\n".encode())
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"kv: no node 'n9'")


def test_ctrl_c_ends_a_piped_shell(cluster: DevCluster) -> None:
    shell = start_kv("--at", cluster.at, "shell")
    assert shell.stdin is not None and shell.stdout is not None
    shell.stdin.write(b"get was-never-there\nring --key a\n")
    shell.stdin.flush()
    assert shell.stdout.readline().startswith(b"a is in partition")  # now it waits for a line
    shell.send_signal(signal.SIGINT)
    _, err = shell.communicate(timeout=30)
    assert (shell.returncode, err.splitlines()[-1]) == (130, b"kv: interrupted")


def test_at_a_terminal_there_is_a_prompt_with_completion_and_history(cluster: DevCluster, tmp_path: Path) -> None:
    history = tmp_path / "history"
    first, *_ = cluster.at.split(",")
    run_kv("--at", first, "put", "terminal:only one", "here")
    with Terminal([*KV, "--at", first, "shell"], environment(KV_HISTORY=str(history), KV_COMPLETION_TIMEOUT="30")) as terminal:
        terminal.until(f"{first}/default>")
        terminal.press("get termi\t")
        terminal.until("terminal:only one'")
        terminal.press("\r")
        terminal.until(r"\nhere\r\n")
        terminal.until("default>")
        terminal.press("sta\t")
        terminal.until("tus")  # what was missing
        terminal.press("\x03")  # drops the line
        terminal.until("default>")
        terminal.press("get nothing-there\r")
        terminal.until("nothing-there has no value")
        terminal.until("default>")
        terminal.press("\x04")
        assert terminal.end() == 0
    assert "+get 'terminal:only one'" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_at_a_terminal_ends_the_command_and_not_the_shell(cluster: DevCluster) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Terminal([*KV, "--at", cluster.at, "shell"], environment(KV_HISTORY="")) as terminal,
    ):
        silent.settimeout(30)
        terminal.until("default>")
        terminal.press(f"get k --timeout 50 --at 127.0.0.1:{silent.getsockname()[1]}\r")
        silent.accept()[0].close()  # it waits for an answer, or for another connection
        terminal.press("\x03")
        terminal.until("interrupted")
        terminal.until("default>")
        terminal.press("load -\r")
        terminal.until("load takes a file")
        terminal.until("default>")
        terminal.press("ring --key a\r")
        terminal.until("a is in partition")
        terminal.until("default>")
        terminal.press("exit\r")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("get us", "us"),
        ("get ", ""),
        ("", ""),
        ("get 'a b", "'a b"),
        ('get "a b" c', "c"),
        (r"get a\ b", r"a\ b"),
        ('get "a\\" b', '"a\\" b'),
        ("get a'b c'd", "a'b c'd"),
        ("get x\\", "x\\"),
    ],
)
def test_the_word_under_the_cursor_begins_where_a_shell_would_begin_it(line: str, word: str) -> None:
    assert line[last_word_start(line) :] == word


def test_values_are_spelled_so_that_a_shell_reads_them_back() -> None:
    assert (quoted("user:1"), quoted("a b"), escaped("user:1"), escaped("a b'$")) == ("user:1", "'a b'", "user:1", r"a\ b\'\$")


def test_ctrl_c_that_another_thread_was_given_ends_a_command_too(store: FakeClient) -> None:
    """Such a signal does not interrupt the wait of the main thread, nor does one of the instant before that wait."""

    async def forever(client: object) -> int:
        threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
        await asyncio.Event().wait()
        return 0

    with Session() as session, pytest.raises(KeyboardInterrupt):
        session.run(Options(), forever)


WAITING = {session_module.__file__: {"wait", "_wait"}, threading.__file__: {"wait", "__enter__", "__exit__", "_release_save"}}
"""The functions that a wait goes through, or went through."""


@pytest.mark.parametrize("at", range(1, 25))
def test_bug_ctrl_c_in_the_middle_of_a_wait_broke_the_lock_it_waits_with(store: FakeClient, at: int) -> None:
    """The interrupt comes at the first, second, … line that the wait goes through."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code.co_name not in WAITING.get(frame.f_code.co_filename, ()):
            return None
        lines += event == "line"
        if lines == at:
            lines += 1
            raise KeyboardInterrupt
        return trace

    async def brief(client: object) -> int:
        await asyncio.sleep(0.02)
        return 0

    with Session() as session:
        session.run(Options(), brief)
        sys.settrace(trace)
        try:
            with suppress(KeyboardInterrupt):
                session.run(Options(), brief)
        finally:
            sys.settrace(None)
        assert session.run(Options(), brief) == 0
    assert lines, "there was a wait"
