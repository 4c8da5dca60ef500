"""Toxiproxy's HTTP API: toxiproxy-python with what it lacks.

Added to it: a server of its own for every object, a time limit on every call, PATCH, quoted names, errors for everything that is no
success. Looking a proxy up asks for that proxy alone: with 2.12 one that is wedged holds up whoever asks for all of them. Blocks;
proxies.py keeps it off the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests
from toxiproxy import Proxy, Toxiproxy

from kvchaos.faults.failures import InjectorFailure, InjectorWedged
from kvchaos.faults.link_state import Toxic

TIMEOUT_S = 2.0


class ToxiproxyApi(Toxiproxy):  # type: ignore[misc]  # it has no types
    """The server at `address`. Raises `InjectorWedged` when it does not answer in time, `InjectorFailure` for any other failure."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment stands between us and this machine

    def close(self) -> None:
        """Gives up its connections."""
        self._session.close()

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, absent_ok: bool = False) -> Any:
        """The decoded answer of one call, None where it has none. `absent_ok`: a 404 is None too."""
        try:
            answer = self._session.request(method, f"http://{self.address}{path}", json=body, timeout=self._timeout_s)
        except requests.Timeout as error:
            raise InjectorWedged(f"toxiproxy did not answer {method} {path} within {self._timeout_s:g} s") from error
        except requests.RequestException as error:
            raise InjectorFailure(f"toxiproxy cannot be reached for {method} {path}: {error}") from error
        if answer.status_code == requests.codes.not_found and absent_ok:
            return None
        if not answer.ok:
            raise InjectorFailure(f"toxiproxy answered {method} {path} with {answer.status_code}: {answer.text.strip()[:300]}")
        return answer.json() if answer.content else None

    def version(self) -> str:
        """What it says it is."""
        return str(self.request("GET", "/version")["version"])

    def proxies(self) -> dict[str, LinkProxy]:
        """Every proxy by name; one that is wedged holds this up."""
        return {name: LinkProxy(self, **values) for name, values in self.request("GET", "/proxies").items()}

    def get_proxy(self, proxy_name: str) -> LinkProxy | None:
        """One proxy, None if there is none."""
        values = self.request("GET", _path(proxy_name), absent_ok=True)
        return None if values is None else LinkProxy(self, **values)

    def create(self, upstream: str, name: str, listen: str | None = None, enabled: bool | None = None) -> LinkProxy:
        """Makes a proxy; it listens when this returns. `listen` None: at a port of the server's choice."""
        body = {"name": name, "upstream": upstream, "listen": listen or "127.0.0.1:0", "enabled": enabled is not False}
        return LinkProxy(self, **self.request("POST", "/proxies", body))

    def reset(self) -> bool:
        """Enables every proxy and removes every toxic."""
        self.request("POST", "/reset")
        return True

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.version())
        except InjectorFailure:
            return False

    def update_api_consumer(self, host: str, port: int) -> None:
        """Another server, for this object alone."""
        self.address = f"{host}:{port}"


class LinkProxy(Proxy):  # type: ignore[misc]  # it has no types
    """One proxy, as of when it was last asked for."""

    def __init__(self, api: ToxiproxyApi, **values: Any) -> None:
        super().__init__(**values)
        self._api = api

    def toxics(self) -> dict[str, Toxic]:
        """Its toxics by name, as the server has them now."""
        rows = self._api.request("GET", f"{_path(self.name)}/toxics")
        return {row["name"]: Toxic(row["name"], row["type"], row["stream"], row["attributes"]) for row in rows}

    def add_toxic(self, **kwargs: Any) -> None:
        """Adds a toxic (`type`, `stream`, `name`, `attributes`) to every connection, also those that are open."""
        kind, stream = kwargs["type"], kwargs.get("stream", "downstream")
        body = {"name": f"{kind}_{stream}", "stream": stream, "toxicity": 1.0, "attributes": {}, **kwargs}
        self._api.request("POST", f"{_path(self.name)}/toxics", body)

    def change_toxic(self, toxic_name: str, attributes: Mapping[str, int]) -> None:
        """Gives a toxic other attributes."""
        self._api.request("PATCH", f"{_path(self.name)}/toxics/{quote(toxic_name, safe='')}", {"attributes": dict(attributes)})

    def destroy_toxic(self, toxic_name: str) -> bool:
        """Removes a toxic; nothing when it is not there."""
        self._api.request("DELETE", f"{_path(self.name)}/toxics/{quote(toxic_name, safe='')}", absent_ok=True)
        return True

    def destroy(self) -> bool:
        """Closes and forgets it."""
        self._api.request("DELETE", _path(self.name), absent_ok=True)
        return True

    def disable(self) -> None:
        """Stops listening and closes its connections."""
        self._enable(on=False)

    def enable(self) -> None:
        """Listens again."""
        self._enable(on=True)

    def _enable(self, *, on: bool) -> None:
        self._api.request("PATCH", _path(self.name), {"enabled": on})
        self.enabled = on


def _path(name: str) -> str:
    return f"/proxies/{quote(name, safe='')}"
