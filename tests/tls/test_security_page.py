"""docs/security.md does what it says: its openssl commands, its settings, its client options and its Python, run as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvclient import AsyncClient
from kvclient.cli import tree
from kvclient.errors import TlsError
from kvstore.config import load_config
from kvstore.node import Node
from tests.docs.blocks import blocks_of, typed_in
from tests.house.repository import ROOT
from tests.support.nodes import free_ports

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [block.body for block in blocks_of(PAGE) if block.language == language]


COMMANDS = [typed.command for block in blocks("console") for typed in typed_in(block)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the openssl commands make, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for command in (command for command in COMMANDS if command.startswith("openssl ")):
        done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=False, timeout=60)
        if "-copy_extensions" in done.stderr and "Unrecognized" in done.stderr:
            pytest.skip("needs OpenSSL 3.0, as the page says")
        assert done.returncode == 0, done.stderr
    return tmp_path


async def test_the_commands_make_what_a_node_and_a_client_need(folder: Path) -> None:
    (port,) = free_ports(1)
    (settings,) = blocks("toml")
    file = folder / "node.toml"
    file.write_text(f'node_id = "n1"\nlisten = "127.0.0.1:{port}"\ndata = "data"\n{settings}')
    node = Node(load_config(file))
    await node.start()
    try:
        # The second client of the page, the URL, with our address in place of the example's.
        (python,) = blocks("python")
        example = re.search(r'AsyncClient\("(kvs://[^"]*)"\)', python)
        assert example is not None
        url = example[1].replace("kv1.example.com:7400/orders", f"127.0.0.1:{port}")
        async with AsyncClient(url) as client:
            await client.put("greeting", b"hello")
        once, exported = (command for command in COMMANDS if "nodes-ca.pem" in command and not command.startswith("openssl "))
        environment = dict(word.split("=") for word in exported.removeprefix("export ").split())
        options = once.removeprefix("kv --at 127.0.0.1:7400 ").split()
        assert await _kv(options, {}, port) == "hello\n"
        assert await _kv(["get", "greeting"], environment, port) == "hello\n"
    finally:
        await node.stop()


async def _kv(words: list[str], environment: dict[str, str], port: int) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kvclient.cli.main",
        *words,
        env={**os.environ, **environment, "KV_AT": f"127.0.0.1:{port}", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0 and not err, err.decode()
    return out.decode()


def test_every_error_is_explained() -> None:
    table = PAGE.partition("## What the errors mean")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {kind.__name__ for kind in TlsError.__subclasses__()}


def test_the_options_it_names_exist() -> None:
    spellings = {spelling for parameter in tree.root.params for spelling in parameter.opts}
    assert {"--tls", "--ca", "--cert", "--key"} <= spellings
