"""What a node answers over HTTP: /metrics for Prometheus, /health and /ready for whoever supervises it, and / that lists them.

An ASGI application; http_server.py serves it. It only reads, and a console is mounted beside these routes (`mounts`).
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kvstore import __version__
from kvstore.api.condition import Condition
from kvstore.api.metrics.collector import Exposition


def make_application(condition: Condition, exposition: Exposition | None, mounts: Sequence[BaseRoute] = ()) -> Starlette:
    """The routes of one node; `exposition` None: it counts nothing, and has no /metrics."""
    pages = {"/health": "does the process live", "/ready": "does the node serve"}

    async def health(_: Request) -> Response:
        reason = condition.why_unhealthy()
        return _said({"status": "ok" if reason is None else "failing"}, reason)

    async def ready(_: Request) -> Response:
        reason = condition.why_not_ready()
        return _said({"ready": reason is None, "peers": condition.peers()}, reason)

    async def metrics(request: Request) -> Response:
        assert exposition is not None, "routed only if there is one"
        body, content_type = await exposition.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def index(_: Request) -> Response:
        return _said({"version": __version__, "pages": pages}, None)

    def _said(facts: dict[str, object], reason: str | None) -> Response:
        told = {"node": condition.node_id, **facts}
        if reason is not None:
            told["reason"] = reason
        return JSONResponse(told, status_code=200 if reason is None else 503)

    routes: list[BaseRoute] = [Route("/", index), Route("/health", health), Route("/ready", ready)]
    if exposition is not None:
        pages["/metrics"] = "counters, for Prometheus"
        routes.append(Route("/metrics", metrics))

    async def failed(request: Request, error: Exception) -> Response:
        condition.logs.tell("error", "http_failed", path=request.url.path, exc_info=error)
        return JSONResponse({"reason": "an internal error, which the node has logged"}, status_code=500)

    return Starlette(routes=[*routes, *mounts], exception_handlers={Exception: failed})
