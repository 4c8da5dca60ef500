"""`kv dev --tls` and `kv` with certificates, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def start(*words: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kvclient.cli.main",
        *words,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def kv(*words: str, **environment: str) -> tuple[int, str, str]:
    process = await start(*words, **environment)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def dev(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """The ready line of `kv dev --tls` with one node."""
    process = await start("dev", "--tls", "--nodes", "1", "--base-port", "0", "--data", str(tmp_path / "cluster"), "-o", "json")
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    yield ready
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


async def test_a_cluster_with_certificates_from_its_ready_line_to_every_refusal(dev: dict[str, Any]) -> None:
    """One cluster for all of it: starting it is what takes the time."""
    tls, at = dev["tls"], dev["nodes"][0]["address"]
    options = [word for name, file in tls.items() for word in (f"--{name}", file)]
    assert (await kv("--at", at, *options, "put", "k", "v"))[0] == 0
    plain, url, unsigned, environment = await asyncio.gather(
        kv("--at", at, "-o", "json", "get", "k"),
        kv("--at", f"kvs://{at}?ca={tls['ca']}&cert={tls['cert']}&key={tls['key']}", "get", "k"),
        kv("get", "k", "--at", at, "--ca", tls["ca"], "-o", "json"),
        kv("ring", "--key", "k", KV_AT=at, KV_CA=tls["ca"], KV_CERT=tls["cert"], KV_KEY=tls["key"]),
    )
    assert url == (0, "v\n", "")
    assert environment[0] == 0 and environment[1].startswith("k is in partition"), "ring's own --key is a key of the store"
    for code, out, err in (plain, unsigned):
        error = json.loads(err)["error"]  # one object and nothing else: gRPC is silent
        assert (code, out, error["code"], error["retryable"]) == (7, "", "NOT_ALLOWED", False)
    assert "speaks TLS" in plain[2] and "client certificate" in unsigned[2]
