"""Everything `kv` prints: results on stdout, the rest on stderr, as people, programs or pipes want it.

Bytes that are text are printed as text, others in base64 (JSON) or escaped (human). Control characters never reach a terminal:
a stored value must not be able to steer it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.options import Output
from kvproto.errors import Code, KvError

if TYPE_CHECKING:
    import click
    from rich.console import Console

    from kvproto.columns import Receipt

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES_KEEPING_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\n\t"}
_ESCAPES_IN_ROWS = {**_ESCAPES, ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}


class OutputClosed(Exception):
    """Whoever read stdout has gone away (`kv dump | head`): nothing is left to do, and nothing is wrong."""


class Printer:
    """Writes results to stdout; a context manager that flushes. Raises `OutputClosed` once nobody reads any more."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.terminal = sys.stdout.isatty()
        self._stream = sys.stdout.buffer

    def __enter__(self) -> Printer:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def raw(self, data: bytes) -> None:
        """Bytes, exactly."""
        try:
            self._stream.write(data)
            if self.terminal:
                self._stream.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error

    def line(self, text: str) -> None:
        """A line of text."""
        self.raw(text.encode("utf-8", "surrogateescape") + b"\n")

    def json(self, row: Mapping[str, Any]) -> None:
        """A line of JSON."""
        self.line(to_json(row))

    def flush(self) -> None:
        """What was written so far becomes visible to the reader."""
        try:
            self._stream.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error


class ErrorPrinter:
    """Writes errors to stderr: one clear sentence, or one JSON object."""

    def __init__(self, output: Output) -> None:
        self._json = output is Output.JSON

    def print_error(self, error: KvError, *, key: bytes | None = None) -> None:
        """An error of the store, about `key` if given."""
        if self._json:
            about: dict[str, Any] = {} if key is None else dict(text_or_base64("key", key))
            numbers = about | error.numbers() | _there_row(error)
            self._object(error.code.name, error.message, error.retryable, error.may_have_applied, numbers)
            return
        about_key = "" if key is None else f"{printable(key)}: "
        unknown = " (it may have been applied)" if error.may_have_applied else ""
        note(f"kv: {about_key}{error.message}{unknown}")
        for hint in (*_there_lines(error), *getattr(error, "__notes__", ())):
            note(f"    {hint}")

    def print_usage(self, error: click.ClickException) -> None:
        """A command line that cannot be understood, and where its help is."""
        from kvclient.cli.suggestions import sentence

        context = getattr(error, "ctx", None)
        if self._json:
            self._object(Code.BAD_REQUEST.name, sentence(error))
        else:
            path = "" if context is None else context.command_path  # none in the shell, where a command was not found
            note(f"kv: {sentence(error)}" + (f" ({path} --help)" if path else ""))

    def print_interrupted(self) -> None:
        """Ctrl-C."""
        if self._json:
            self._object("INTERRUPTED", "interrupted")
        else:
            note("kv: interrupted")

    def print_internal(self, error: Exception) -> None:
        """A bug: the traceback is for whoever mends it."""
        sentence = f"internal error: {type(error).__name__}: {error}"
        if self._json:
            self._object(Code.INTERNAL.name, sentence)
            return
        import traceback

        note("".join(traceback.format_exception(error)).rstrip())
        note(f"kv: {sentence}")

    def _object(
        self,
        code: str,
        message: str,
        retryable: bool = False,
        may_have_applied: bool = False,
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        error = {"code": code, "message": message, "retryable": retryable, "may_have_applied": may_have_applied, **(numbers or {})}
        note(to_json({"error": error}))


def note(text: str) -> None:
    """A line on stderr, for people; lost without complaint if nobody reads it."""
    try:
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)
    except BrokenPipeError:
        return


def may_have_colour() -> bool:
    """Whether the environment leaves colours to the terminal (https://no-color.org; a dumb terminal has none)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def abandon_stdout() -> ExitCode:
    """After `OutputClosed`: keeps the interpreter from complaining about what it could not write; the command did its work."""
    with contextlib.suppress(OSError):  # raised where stdout is no file, hence not flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """For tables and bars: plain unless it is a terminal; `width` None: the terminal's."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=width)


def to_json(row: Mapping[str, Any]) -> str:
    """One line of JSON, text as it is."""
    import json

    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def text_or_base64(name: str, data: bytes) -> dict[str, str]:
    """`{name: text}`, or `{name_base64: …}` where the bytes are no UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def printable(data: bytes, *, one_line: bool = True) -> str:
    """Bytes for a person: text where they are text, escapes where they are not; `one_line` escapes line ends and tabs too."""
    text = data.decode("utf-8", "backslashreplace")
    return text.translate(_ESCAPES_IN_ROWS if one_line else _ESCAPES_KEEPING_LINES)


def _there_row(error: KvError) -> dict[str, Any]:
    """What is there in the place of what a condition wanted."""
    entry = getattr(error, "entry", None)
    if entry is None:
        return {}
    held = text_or_base64("value", entry.value) if entry.found else {"value": None}
    return {"found": entry.found, **held, "version": entry.version or None, "expires_at": entry.expires_at}


def _there_lines(error: KvError) -> list[str]:
    entry = getattr(error, "entry", None)
    if entry is None:
        return []
    if not entry.found:
        return [f"{printable(entry.key)} has no value"]
    return [f"{printable(entry.key)} holds {printable(entry.value)!s}, version {entry.version}"]


def receipt_row(receipt: Receipt) -> dict[str, Any]:
    """A receipt as JSON: its fields by name, levels in lower case."""
    values = {field.name: getattr(receipt, field.name) for field in fields(receipt)}
    return {name: value.name.lower() if isinstance(value, Enum) else value for name, value in values.items()}


def print_receipt_notes(receipt: Receipt) -> None:
    """What a person should know about how an answer came about: that it is degraded, and, if asked for, the explanation."""
    if receipt.degraded:
        note(f"degraded: {len(receipt.acknowledged)} of {receipt.n} replicas answered, fewer than the preset asks for")
    if receipt.explanation:
        from kvclient.cli.picture import picture

        for line in picture(receipt):
            note(line)
