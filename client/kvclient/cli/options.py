"""What every command accepts, before the sub-command and after it; the later one wins, then the environment, then the default.

A global option keeps its value in the context's `meta`, which all contexts of one invocation share. Commands read it through
`Options.of`; the parameters themselves are added to a command by `accept_global_options`, also to commands of other distributions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import click
from click.core import ParameterSource

from kvclient.cli.arguments import namespaces_offered
from kvclient.cli.help_pages import Context
from kvproto.errors import BadRequest

DEFAULT_AT = "127.0.0.1:7400"
DEFAULT_NAMESPACE = "default"
DEFAULT_TIMEOUT_S = 5.0
LEVELS = ("one", "quorum", "all", "zone_quorum", "atomic", "linearizable", "timeline", "bounded")
_META = "kvclient.cli."
_TLS = ("tls", "ca", "cert", "key")


class Output(StrEnum):
    """How results are printed: for people, one JSON object a line, or bytes as they are."""

    HUMAN = "human"
    JSON = "json"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Options:
    """The global options of one invocation. `at` has the TLS options in it, as a URL. `timeout_s` None: the client's default;
    `level` None: the namespace's preset; `sloppy` None: as the level has it."""

    at: str = DEFAULT_AT
    namespace: str = DEFAULT_NAMESPACE
    level: str | None = None
    timeout_s: float | None = None
    output: Output = Output.HUMAN
    explain: bool = False
    bound_ms: int | None = None
    sloppy: bool | None = None

    @classmethod
    def of(cls, context: click.Context) -> Options:
        """The options as given so far on the command line of `context`, completed from environment and defaults."""
        given = {name: context.meta[_META + name] for name in cls.__slots__ if _META + name in context.meta}
        at = given.setdefault("at", DEFAULT_AT)
        given.setdefault("namespace", _namespace_in_url(at) or DEFAULT_NAMESPACE)
        tls = {name: context.meta[_META + name] for name in _TLS if _META + name in context.meta}
        if tls:
            from kvclient.target import with_tls

            tls.pop("tls", None)
            given["at"] = with_tls(at, **tls)
        return cls(**given)

    def call(self, **extra: object) -> dict[str, Any]:
        """Keyword arguments for one operation: what was asked for, and nothing that was not (timeout and level are the client's).

        Raises `BadRequest` for a level beside a number of replicas.
        """
        arguments = {name: value for name, value in extra.items() if value is not None}
        counted = next((name for name in ("r", "w") if name in arguments), None)
        if counted is not None and self.level is not None:
            raise BadRequest(
                f"--level {self.level} and --{counted} {arguments[counted]} both say how many replicas: give one of them"
            )
        return arguments | ({"explain": True} if self.explain else {})

    @property
    def patience_s(self) -> float:
        """The timeout, for what a command waits for by itself."""
        return DEFAULT_TIMEOUT_S if self.timeout_s is None else self.timeout_s


def _namespace_in_url(at: str) -> str:
    if not at.startswith(("kv://", "kvs://")):
        return ""
    from urllib.parse import urlsplit

    return urlsplit(at).path.strip("/")


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None or (value is False and parameter.name != "global_sloppy"):
        return
    typed = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    if not typed and _META + str(parameter.name).removeprefix("global_") in context.meta:
        return  # the shell that this line was typed in has been told otherwise than the environment
    name = str(parameter.name)
    context.meta[_META + name.removeprefix("global_")] = Output(value) if name == "global_output" else value


def set_option(meta: dict[str, Any], name: str, value: object) -> None:
    """Gives a global option a value in a context's `meta`, as if it had been typed."""
    meta[_META + name] = value


def _global_options(*, with_environment: bool) -> Iterator[click.Option]:
    """Fresh parameters; the environment is read once, at the root, so that it never overrides what stands before a sub-command."""

    def option(*declarations: str, **settings: Any) -> click.Option:
        return click.Option(declarations, expose_value=False, callback=_remember, **settings)

    def variable(name: str) -> str | None:
        return name if with_environment else None

    yield option(
        "global_at",
        "--at",
        metavar="HOST:PORT[,…]",
        envvar=variable("KV_AT"),
        help=f"Nodes to start from.  [env: KV_AT; default: {DEFAULT_AT}]",
    )
    yield option(
        "global_namespace",
        "-n",
        "--namespace",
        metavar="NAME",
        envvar=variable("KV_NAMESPACE"),
        shell_complete=namespaces_offered,
        help=f"Namespace.  [env: KV_NAMESPACE; default: {DEFAULT_NAMESPACE}]",
    )
    yield option(
        "global_tls", "--tls", is_flag=True, default=None, envvar=variable("KV_TLS"), help="Connect over TLS.  [env: KV_TLS=1]"
    )
    for name, held in (("ca", "who signs the nodes' certificates"), ("cert", "our certificate"), ("key", "its key")):
        yield option(
            f"global_{name}",
            f"--{name}",
            metavar="FILE",
            envvar=variable(f"KV_{name.upper()}"),
            help=f"TLS, a PEM file: {held}.  [env: KV_{name.upper()}]",
        )
    yield option("global_level", "--level", type=click.Choice(LEVELS), help="Consistency level.  [default: the preset's]")
    yield option(
        "global_bound_ms",
        "--bound-ms",
        type=click.IntRange(min=1),
        metavar="MS",
        help="How stale a read may be: level bounded (linearizable namespaces).",
    )
    yield option(
        "global_sloppy",
        "--sloppy/--no-sloppy",
        default=None,
        help="Whether stand-ins count for home replicas (eventual namespaces).  [default: as the level has it]",
    )
    yield option(
        "global_timeout_s",
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0.0, min_open=True),
        help=f"Covers retries and failover.  [default: {DEFAULT_TIMEOUT_S:g}]",
    )
    yield option(
        "global_output",
        "-o",
        "--output",
        type=click.Choice([output.value for output in Output]),
        help="Output format.  [default: human]",
    )
    yield option("global_explain", "--explain", is_flag=True, default=None, help="Say who answered what, and why.")


def accept_global_options(command: click.Command, *, root: bool = False) -> click.Command:
    """Adds the global options to `command` and its sub-commands, except those whose spelling a command uses itself."""
    taken = {spelling for parameter in command.params for spelling in parameter.opts}
    for option in _global_options(with_environment=root):
        if not taken.intersection(option.opts):
            option.hidden = not root  # listed once, in `kv --help`
            command.params.append(option)
    command.context_class = Context
    command.epilog = command.epilog or "As everywhere: --at -n --level --timeout -o --explain (see kv --help)."
    if isinstance(command, click.Group):
        for child in command.commands.values():
            accept_global_options(child)
    return command


def given_before(context: click.Context, command: click.Command) -> dict[str, Any]:
    """Defaults for a command that spells a global option its own way, from what was given before the sub-command."""
    defaults: dict[str, Any] = {}
    for option in _global_options(with_environment=False):
        if option.name == "global_key":
            continue  # the file of a private key: a command's own --key is a key of the store
        value = context.meta.get(_META + str(option.name).removeprefix("global_"))
        for parameter in command.params:
            if value is not None and parameter.name != option.name and set(parameter.opts) & set(option.opts):
                defaults[str(parameter.name)] = str(value) if isinstance(value, Output) else value
    return defaults


def output_asked(arguments: list[str], default: Output = Output.HUMAN) -> Output:
    """The output format a command line asks for, read without parsing: one that cannot be parsed has an error to print."""
    asked = default
    for at, argument in enumerate(arguments):
        if argument == "--":
            break
        following = arguments[at + 1] if at + 1 < len(arguments) else ""
        if argument in {"-o", "--output"}:
            value = following
        elif argument.startswith("--output="):
            value = argument.removeprefix("--output=")
        elif argument.startswith("-o"):
            value = argument.removeprefix("-o")
        else:
            continue
        if value in set(Output):
            asked = Output(value)
    return asked
