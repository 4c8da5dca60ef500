"""The command line itself: global options, help, suggestions, errors and exit codes, commands of other distributions."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest

import kvclient
from kvclient.cli import connection, exit_codes, plugins, tree
from kvclient.cli.exit_codes import ExitCode, exit_code_of
from kvclient.cli.options import Options, Output, output_asked
from kvclient.errors import BatchError, SiblingsError
from kvproto import errors
from kvproto.errors import KvError
from kvproto.options import EVENT_ENGINE_OFF
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient


def test_global_options_stand_before_or_after_the_sub_command_and_the_later_wins(kv: Kv, store: FakeClient) -> None:
    kv("put", "k", "in users", "-n", "users")
    assert kv("-n", "users", "get", "k").text == "in users\n"
    assert kv("get", "k", "--namespace", "users").text == "in users\n"
    assert kv("-n", "wrong", "get", "k", "-n", "users").text == "in users\n"
    assert kv("get", "k").code == 3
    kv("--at", "h1:1,h2:2", "get", "k")
    kv("get", "k", "--at", "h3:3")
    assert store.asked_at[-3:] == ["127.0.0.1:7400", "h1:1,h2:2", "h3:3"]


def test_the_environment_stands_in_for_options_and_yields_to_them(
    kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KV_AT", "env:1")
    monkeypatch.setenv("KV_NAMESPACE", "users")
    kv("put", "k", "v")
    assert list(store.namespaces) == ["users"]
    kv("--at", "before:1", "put", "k", "v", "-n", "orders")
    assert list(store.namespaces) == ["users", "orders"]
    assert store.asked_at == ["env:1", "before:1"]


def test_tls_options_become_part_of_the_address_wherever_they_stand(
    kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv("--ca", "ca.pem", "get", "k", "--cert", "c.pem", "--key", "k.key")
    kv("get", "k", "--tls", "--at", "kv://h:1/users")
    monkeypatch.setenv("KV_CA", "env.pem")
    kv("--at", "h:1", "get", "k")
    kv("--at", "h:1", "get", "k", "--ca", "given.pem")
    assert store.asked_at == [
        "kvs://127.0.0.1:7400?ca=ca.pem&cert=c.pem&key=k.key",
        "kvs://h:1/users",
        "kvs://h:1?ca=env.pem",
        "kvs://h:1?ca=given.pem",
    ]


def test_a_commands_own_key_is_not_the_file_of_a_private_key(kv: Kv, store: FakeClient) -> None:
    told = kv("--ca", "ca.pem", "--cert", "c.pem", "--key", "k.key", "ring", "--key", "alice")
    assert told.text.startswith("alice is in partition")
    assert "partition" in kv("--ca", "ca.pem", "--cert", "c.pem", "--key", "k.key", "ring").text
    assert "k.key is in partition" not in kv("--ca", "ca.pem", "--cert", "c.pem", "--key", "k.key", "ring").text
    assert store.asked_at[-1] == "kvs://127.0.0.1:7400?ca=ca.pem&cert=c.pem&key=k.key"


def test_an_address_may_name_the_namespace(kv: Kv, store: FakeClient) -> None:
    kv("--at", "kv://h:1/users", "put", "k", "v")
    kv("--at", "kv://h:1/users", "put", "k", "v", "-n", "orders")
    assert list(store.namespaces) == ["users", "orders"]


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["gett", "k"], "'get'"),
        (["statsu"], "'status'"),
        (["put", "k", "v", "--tttl", "3"], "'--ttl'"),
        (["bench", "rum"], "'run'"),
        (["get", "k", "--levle", "one"], "'--level'"),
    ],
)
def test_the_nearest_name_is_suggested(kv: Kv, arguments: list[str], suggestion: str) -> None:
    refused = kv(*arguments)
    assert (refused.code, refused.stdout) == (2, b"")
    assert f"Did you mean {suggestion}?" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_usage_errors_are_json_when_json_is_asked_for(kv: Kv) -> None:
    for arguments in (["gett", "k", "-o", "json"], ["-ojson", "put", "k"], ["get", "k", "--timeout", "0", "--output=json"]):
        refused = kv(*arguments)
        assert refused.code == 2
        assert refused.error["code"] == "BAD_REQUEST"
        assert (refused.error["retryable"], refused.error["may_have_applied"]) == (False, False)


def test_the_output_asked_for_is_found_without_parsing() -> None:
    assert output_asked(["get", "k"]) is Output.HUMAN
    assert output_asked(["-o", "json", "get", "-o", "raw"]) is Output.RAW
    assert output_asked(["get", "--", "-o", "json"]) is Output.HUMAN
    assert output_asked(["get", "-o"]) is Output.HUMAN


def test_every_error_class_has_the_exit_code_it_promises() -> None:
    expected = {
        errors.KvError: ExitCode.INTERNAL,
        errors.UserError: ExitCode.REFUSED,
        errors.ClusterError: ExitCode.REFUSED,
        errors.AvailabilityError: ExitCode.UNAVAILABLE,
        errors.StorageError: ExitCode.UNAVAILABLE,
        errors.NotAllowed: ExitCode.NOT_ALLOWED,
    }
    exceptions = {errors.WrongEpoch: ExitCode.UNAVAILABLE, errors.NotOwner: ExitCode.UNAVAILABLE, SiblingsError: ExitCode.CONDITION}
    exceptions |= dict.fromkeys(_all_classes(errors.ConditionFailed), ExitCode.CONDITION)
    seen = 0
    for kind in _all_classes(KvError):
        if kind is BatchError or kind.__module__ not in {"kvproto.errors", "kvclient.errors"}:
            continue
        root = next(base for base in kind.__mro__ if base in expected)
        assert exit_code_of(kind("x")) is exceptions.get(kind, expected[root]), kind
        assert exit_code_of(kind("x", may_have_applied=True)) is ExitCode.UNKNOWN, kind
        seen += 1
    assert seen > 20


def _all_classes(kind: type[KvError]) -> list[type[KvError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _all_classes(child))]


def test_of_a_batch_the_gravest_error_decides() -> None:
    unknown = errors.DeadlineExceeded("late", may_have_applied=True)
    refused, unavailable = errors.TooLarge("large"), errors.Overloaded("full")
    assert exit_code_of(BatchError({}, {"a": refused, "b": unavailable})) is ExitCode.UNAVAILABLE
    assert exit_code_of(BatchError({}, {"a": refused, "b": unavailable, "c": unknown})) is ExitCode.UNKNOWN
    assert exit_codes.gravest(set()) is ExitCode.DONE


def test_the_exit_codes_are_the_published_ones() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "INTERNAL": 1,
        "REFUSED": 2,
        "NOT_FOUND": 3,
        "CONDITION": 4,
        "UNAVAILABLE": 5,
        "UNKNOWN": 6,
        "NOT_ALLOWED": 7,
        "PROMISE_BROKEN": 8,
        "INCONCLUSIVE": 9,
        "INTERRUPTED": 130,
    }


def test_an_unknown_outcome_says_so(kv: Kv, store: FakeClient) -> None:
    error = errors.QuorumUnreachable("1 of 2 replicas acknowledged", may_have_applied=True, needed=2, received=1, contacted=3)
    store.default.failing = {b"k": error}
    put = kv("put", "k", "v")
    assert (put.code, put.stdout, put.stderr) == (6, b"", "kv: 1 of 2 replicas acknowledged (it may have been applied)\n")
    assert kv("put", "k", "v", "-o", "json").error == {
        "code": "QUORUM_UNREACHABLE",
        "message": "1 of 2 replicas acknowledged",
        "retryable": True,
        "may_have_applied": True,
        "needed": 2,
        "received": 1,
        "contacted": 3,
    }


def test_a_bug_ends_1_with_its_traceback_or_as_json(kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "namespace", lambda _name: 1 / 0)
    bug = kv("get", "k")
    assert bug.code == 1
    assert bug.stderr.splitlines()[0].startswith("Traceback")
    assert bug.stderr.splitlines()[-1] == "kv: internal error: ZeroDivisionError: division by zero"
    assert kv("get", "k", "-o", "json").error["code"] == "INTERNAL"


def test_ctrl_c_ends_130(kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(_key: bytes, **_options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(store.default, "get", interrupted)
    stopped = kv("get", "k")
    assert (stopped.code, stopped.stderr) == (130, "kv: interrupted\n")
    assert kv("get", "k", "-o", "json").error["code"] == "INTERRUPTED"


def test_the_version_is_the_clients(kv: Kv) -> None:
    assert kv("--version").text == f"kv, version {kvclient.__version__}\n"


def test_no_arguments_print_the_help_and_end_2(kv: Kv) -> None:
    nothing = kv()
    assert (nothing.code, nothing.stdout) == (2, b"")
    assert "Usage: kv" in nothing.stderr


def test_every_built_in_command_has_help(kv: Kv) -> None:
    listed = kv("--help")
    assert listed.code == 0
    for name, (_, line) in tree.BUILT_IN.items():
        assert f"  {name} " in listed.text
        assert line in listed.text
        shown = kv(name, "--help")
        assert (shown.code, shown.stderr) == (0, "")
        assert f"Usage: kv {name}" in shown.text
        assert kv(name, "-h").text == shown.text


def test_help_is_grouped_with_examples_above_and_options_below(kv: Kv) -> None:
    text = kv("--help").text
    parts = ["Examples:", "Commands for data:", "Commands for clusters:", "Commands that measure and test:", "Options:"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert "[env: KV_AT; default: 127.0.0.1:7400]" in " ".join(text.split())
    of_get = kv("get", "--help").text
    assert of_get.index("Examples:\n  kv get alice\n") < of_get.index("--r N")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_want_them(
    kv: Kv, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    term = variables.get("TERM", "xterm-256color")
    assert ("\x1b[32malive" in kv("status", terminal=True, term=term).text) is coloured
    assert ("\x1b[" in kv("--help", terminal=True, term=term).text) is coloured
    assert "\x1b[" not in kv("status").text + kv("--help").text


def test_tables_keep_whole_rows_in_narrow_terminals(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = kv("status").text
    monkeypatch.setenv("COLUMNS", "20")
    assert kv("status").text == wide
    assert max(map(len, kv("get", "--help").text.splitlines())) < 80


def test_a_cluster_that_is_not_there_is_told_in_a_line_and_a_hint(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(at: str, **_: object) -> object:
        raise errors.AvailabilityError(f"no node answers at {at}: {at}: unavailable: connect: Connection refused (111)")

    monkeypatch.setattr(connection, "connect", nobody)
    assert kv("get", "k").stderr.splitlines() == [
        "kv: nothing answers at 127.0.0.1:7400: Connection refused (111)",
        "    start a cluster with: kv dev",
    ]
    assert "--at" in kv("get", "k", "--at", "h:1").stderr.splitlines()[1]
    assert "unavailable: connect" in kv("get", "k", "--explain").stderr
    assert kv("get", "k", "-o", "json").error["retryable"] is True


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        name: EntryPoint(name, f"tests.cli.plugged:{attribute}", plugins.GROUP)
        for name, attribute in (("hello", "hello"), ("own", "own"), ("broken", "missing"), ("odd", "ODD"))
    }
    monkeypatch.setattr(plugins, "find_entry_points", lambda: found)
    monkeypatch.setattr(tree.root, "commands", {})


@pytest.mark.usefixtures("plugged")
def test_commands_of_other_distributions_run_and_take_global_options(kv: Kv) -> None:
    assert kv("hello", "-n", "users").text == "hello users human\n"
    assert kv("-o", "json", "hello").text == "hello default json\n"
    assert kv("helo").stderr.startswith("kv: No such command 'helo'. Did you mean 'hello'?")


@pytest.mark.usefixtures("plugged")
def test_a_command_that_spells_a_global_option_itself_gets_it_from_before_too(kv: Kv) -> None:
    assert kv("own", "-o", "json").text == "json\n"
    assert kv("-o", "json", "own").text == "json\n"
    assert kv("own").text == "text\n"


def test_a_line_of_help_does_not_import_its_command() -> None:
    code = (
        "import sys; from importlib.metadata import EntryPoint; from kvclient.cli import main, plugins;"
        "plugins.find_entry_points = lambda: {'hello': EntryPoint('hello', 'tests.cli.plugged:hello', plugins.GROUP)};"
        "main.main(['--help']); print('tests.cli.plugged' in sys.modules)"
    )
    *listed, imported = _python(code).splitlines()
    assert any(line.split() == ["hello", "Says", "hello."] for line in listed)
    assert imported == "False"


@pytest.mark.usefixtures("plugged")
def test_a_command_that_cannot_be_loaded_leaves_the_others_alone(kv: Kv) -> None:
    listed = kv("--help")
    assert listed.code == 0
    assert re.search(r"hello +Says hello\.\n", listed.text)
    assert "cannot be loaded" in " ".join(listed.text.split())
    assert "is not a click command" in " ".join(listed.text.split())
    for name in ("broken", "odd"):
        refused = kv(name)
        assert refused.code == 2
        assert repr(name) in refused.stderr


def test_options_are_complete_without_any_being_given() -> None:
    assert Options.of(click.Context(click.Command("x"))) == Options()


def _python(code: str, **environment: str) -> str:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path} | environment,
    )
    return done.stdout


def test_help_imports_neither_grpc_nor_rich_nor_the_client() -> None:
    code = (
        "import sys, json; from kvclient.cli import main, plugins; plugins.find_entry_points = dict; main.main(['--help']);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    modules = json.loads(_python(code).splitlines()[-1])
    assert "kvclient.cli.tree" in modules
    assert not {"grpc", "rich", "google.protobuf", "uvloop", "kvclient.async_client", "kvclient.cli.data", "hdrh"}.intersection(
        modules
    )


def test_grpc_settings_are_made_unless_the_user_has_made_them() -> None:
    code = "import os; from kvclient.cli import main; main.main(['--version']); print(os.environ['GRPC_EXPERIMENTS'])"
    assert _python(code, GRPC_EXPERIMENTS="mine").splitlines()[-1] == "mine"
    unset = f"import os; del os.environ['GRPC_EXPERIMENTS']; {code}"
    assert _python(unset, GRPC_EXPERIMENTS="").splitlines()[-1] == EVENT_ENGINE_OFF


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys; from tests.cli.fake_store import FakeClient; from kvclient.cli import connection, main; store = FakeClient();"
        "store.default.cells = {b'%06d' % at: {at: (b'v' * 100, None)} for at in range(20_000)};"
        "connection.connect = store.connect; sys.exit(main.main(['dump']))"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as dump:
        assert dump.stdout is not None
        assert dump.stderr is not None
        assert dump.stdout.readline().startswith(b'{"key"')
        dump.stdout.close()
        assert (dump.wait(timeout=60), dump.stderr.read()) == (0, b"")
