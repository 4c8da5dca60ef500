"""What tests ask of a node's http address; off the loop, so that the node can answer from it."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any


async def fetch(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
    """Status, headers (names in small letters) and body."""
    return await asyncio.to_thread(_fetch, address, path, headers or {})


async def fetch_json(address: str, path: str) -> tuple[int, Any]:
    """Status and the object."""
    status, _, body = await fetch(address, path)
    return status, json.loads(body)


def _fetch(address: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
    finally:
        connection.close()
