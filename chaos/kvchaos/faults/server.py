"""One Toxiproxy server as a child process: on a port of its own, ready when it answers with the right version, killed with us."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from kvchaos import leash
from kvchaos.faults.api import ToxiproxyApi
from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.server_binary import VERSION
from kvchaos.ports import HOST, address, find_free_ports

READY_TIMEOUT_S = 10.0
READY_INTERVAL_S = 0.02
END_TIMEOUT_S = 5.0


class ToxiproxyServer:
    """The server `binary`, which writes its log to `log`. Starts with nothing, also when it is started again."""

    def __init__(self, binary: Path, log: Path) -> None:
        self.log = log
        self.address = ""
        self._binary = binary
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it answers. Raises `InjectorFailure` with its last words."""
        assert self._process is None, "started twice"
        port = find_free_ports(1)[0]
        self.address = address(port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", leash.__file__),
                *(str(self._binary), "-host", HOST, "-port", str(port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "LOG_LEVEL": "error"},
            )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._wait_ready(self._process)
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise InjectorFailure(f"toxiproxy was not ready after {READY_TIMEOUT_S:g} s{self._last_words()}") from None
            raise

    async def stop(self) -> None:
        """Kills it, as well when it is wedged; it has nothing to lose. Down already: nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None, "started with a pipe"
        process.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            if process.returncode is None:  # the group is theirs as long as its leader is not reaped
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        api = ToxiproxyApi(self.address)
        try:
            while True:
                if process.returncode is not None:
                    raise InjectorFailure(f"toxiproxy ended with {process.returncode}{self._last_words()}")
                try:
                    version = await asyncio.to_thread(api.version)
                except InjectorFailure:
                    await asyncio.sleep(READY_INTERVAL_S)
                    continue
                if version != VERSION:
                    raise InjectorFailure(f"toxiproxy {version} answers at {self.address}, not {VERSION}")
                return
        finally:
            api.close()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return f": {lines[-1][-300:]}" if lines else ""
