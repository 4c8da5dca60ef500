"""What a node answers over HTTP: /metrics for Prometheus, /health and /ready for whoever supervises it, and / that lists them.

An ASGI application; http_server.py serves it. It only reads, and a console is mounted beside these routes (`mounts`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kvstore import __version__
from kvstore.api.condition import Condition
from kvstore.telemetry import log


def make_application(condition: Condition, registry: CollectorRegistry | None, mounts: Sequence[BaseRoute] = ()) -> Starlette:
    """The routes of one node; `registry` None: it counts nothing, and has no /metrics."""
    pages = {"/health": "does the process live", "/ready": "does the node serve"}
    scraping = asyncio.Lock()

    async def health(_: Request) -> Response:
        reason = condition.why_unhealthy()
        return _said({"status": "ok" if reason is None else "failing"}, reason)

    async def ready(_: Request) -> Response:
        reason = condition.why_not_ready()
        return _said({"ready": reason is None, "peers": condition.peers()}, reason)

    async def metrics(request: Request) -> Response:
        assert registry is not None, "routed only if there is one"
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        async with scraping:  # one at a time, and off the loop: it reads the disk, and is a few milliseconds of text
            body = await asyncio.get_running_loop().run_in_executor(None, encode, registry)
        return Response(body, headers={"content-type": content_type})

    async def index(_: Request) -> Response:
        return _said({"version": __version__, "pages": pages}, None)

    def _said(facts: dict[str, object], reason: str | None) -> Response:
        told = {"node": condition.node_id, **facts}
        if reason is not None:
            told["reason"] = reason
        return JSONResponse(told, status_code=200 if reason is None else 503)

    routes: list[BaseRoute] = [Route("/", index), Route("/health", health), Route("/ready", ready)]
    if registry is not None:
        pages["/metrics"] = "counters, for Prometheus"
        routes.append(Route("/metrics", metrics))
    return Starlette(routes=[*routes, *mounts], exception_handlers={Exception: _failed})


async def _failed(request: Request, error: Exception) -> Response:
    log.error("http_failed", path=request.url.path, exc_info=error)
    return JSONResponse({"reason": "an internal error, which the node has logged"}, status_code=500)
