"""What is typed on a command line, as the bytes and numbers it stands for."""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING

from kvproto.errors import BadRequest

if TYPE_CHECKING:
    import click


def keys_offered(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers for a key."""
    from kvclient.cli import completions  # only who presses Tab waits for it

    return completions.keys(context, parameter, incomplete)


def namespaces_offered(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers for a namespace."""
    from kvclient.cli import completions

    return completions.namespaces(context, parameter, incomplete)


def to_bytes(argument: str) -> bytes:
    """The very bytes that were typed: what is no UTF-8 arrives as surrogates and leaves as it came."""
    return argument.encode("utf-8", "surrogateescape")


def value_bytes(argument: str) -> bytes:
    """A value as typed, or all of stdin for `-`."""
    return sys.stdin.buffer.read() if argument == "-" else to_bytes(argument)


def decode_base64(text: str, *, what: str) -> bytes:
    """Bytes from base64. Raises `BadRequest` naming `what`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{what} is not base64: {error}") from error
