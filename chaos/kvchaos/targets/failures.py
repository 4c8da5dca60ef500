"""What a target raises when it is not there, does not start or does not do what it should."""

from __future__ import annotations


class TargetFailed(Exception):
    """Another store could not be had, started or used; the text says why, and how one can be had."""
