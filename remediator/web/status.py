"""Health, readiness, metrics, reload and the first page: what Prometheus, Kubernetes and a curious person ask for."""

from __future__ import annotations

import html

from aiohttp import web

from remediator import __version__
from remediator.errors import InputError
from remediator.metrics import CONTENT_TYPE
from remediator.web.answers import HEADERS, Refused, answer, text
from remediator.web.call import Call


async def healthy(_call: Call) -> web.Response:
    """The process lives and its loop turns. Says nothing about the store: a restart would not mend that."""
    return text("Remediator is Healthy.\n")


async def ready(call: Call) -> web.Response:
    """Whether deliveries will be accepted and runs carried out; 503 while it starts, drains or has no store."""
    fine, parts = call.service.ready()
    if call.service.draining:
        fine, parts = False, {**parts, "draining": True}
    status = 200 if fine else 503
    wants = call.request.headers.get("Accept", "")
    if "verbose" in call.request.query or "application/json" in wants:
        return answer({"ready": fine, **parts}, status=status)
    return text("Remediator is Ready.\n" if fine else "Remediator is not ready.\n", status=status)


async def metrics(call: Call) -> web.Response:
    """The figures of docs/reference/metrics.md."""
    return web.Response(body=call.service.metrics.render(), headers={**HEADERS, "Content-Type": CONTENT_TYPE})


async def reload(call: Call) -> web.Response:
    """Load settings and rules again; a bad set changes nothing and is answered with its report."""
    if not call.service.options.enable_lifecycle:
        raise Refused(403, "lifecycle", "reloading over HTTP is off; start with --web.enable-lifecycle, or send SIGHUP")
    try:
        await call.service.reload(call.who.actor)
    except InputError as error:
        raise Refused(400, "reload", f"the old set stays in force:\n{error}") from None
    return text("reloaded\n")


async def index(_call: Call) -> web.Response:
    """A page that says what this is and where to look."""
    links = ("/api/v1/runs", "/api/v1/rules", "/api/v1/incidents", "/api/v1/audit", "/api/v1/openapi.json")
    rows = "".join(f'<li><a href="{link}">{link}</a></li>' for link in (*links, "/metrics", "/-/ready?verbose"))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Remediator</title></head>'
        f"<body><h1>Remediator {html.escape(__version__)}</h1><ul>{rows}</ul></body></html>\n"
    )
    return text(page, kind="text/html")
