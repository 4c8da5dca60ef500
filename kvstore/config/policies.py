"""Policies from the configuration: the built-in ones by their names, merge functions imported and checked.

A function that is no merge is refused before the node touches anything, with the values that show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module

from kvproto.errors import UserError
from kvstore.config.values import NamespaceConfig
from kvstore.core.policies.merging import LawBroken, Merged
from kvstore.core.policies.operations import Policy
from kvstore.core.policies.registry import POLICIES


class BadMerge(UserError):
    """A merge function that cannot be had, or is none; `subject` is the namespace."""


def load_policies(namespaces: Mapping[str, NamespaceConfig]) -> dict[str, Policy]:
    """The policy of each namespace. Raises `BadMerge`."""
    return {name: _merged(space) if space.policy == "merge" else POLICIES[space.policy] for name, space in namespaces.items()}


def _merged(space: NamespaceConfig) -> Policy:
    module, _, name = space.merge.partition(":")
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise _bad(space, f"{space.merge} cannot be imported: {error!r}; is it on the PYTHONPATH of this node?") from error
    if not callable(function):
        raise _bad(space, f"{space.merge} is no function but a {type(function).__name__}")
    samples: Iterable[bytes] = getattr(function, "samples", None) or [text.encode() for text in space.samples]
    try:
        return Merged(space.merge, function, samples)
    except LawBroken as error:
        raise _bad(space, str(error)) from error


def _bad(space: NamespaceConfig, sentence: str) -> BadMerge:
    return BadMerge(f"namespace {space.name!r} cannot be merged: {sentence}", subject=space.name)
