"""``POST /api/v1/alertmanager``: the door. 200 only after the commit, 503 when it cannot be, 4xx when it never will."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web
from prometheus_client import Counter

from remediator.errors import DeliveryError, StoreUnavailable
from remediator.log import logger
from remediator.web.answers import Refused, problem
from remediator.web.auth import Authenticator
from remediator.web.body import check_head, read_body
from remediator.web.service import Service

_log = logger("web")
_HEADERS = {"Content-Type": "application/json", "Server": "remediator"}
_RETRY = {"Retry-After": "5"}
"""Alertmanager ignores it and retries by its own back-off; other senders heed it."""


class Webhook:
    """The handler of deliveries. The hot path of the service: no middleware, no access log, answers built by hand."""

    def __init__(self, service: Service, auth: Authenticator) -> None:
        self._service = service
        self._auth = auth
        self._codes: dict[int, Counter] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one delivery, whatever happens."""
        began = self._service.clock.monotonic()
        try:
            response = await self._deliver(request)
        except Refused as refused:
            response = problem(refused)
        except DeliveryError as error:
            response = problem(Refused(error.status, error.reason.replace("_", "-"), str(error)))
        except (StoreUnavailable, TimeoutError) as error:
            why = str(error) or "no commit in time"
            _log.warning("a delivery was not accepted; the sender will try again", error=why)
            response = problem(Refused(503, "unavailable", "not accepted now; send it again", headers=_RETRY))
        except Exception:  # noqa: BLE001 - whatever the bug, the sender must hear 503 and come back.
            _log.exception("a bug kept a delivery out; the sender will try again")
            response = problem(Refused(503, "bug", "not accepted now; send it again", headers=_RETRY))
        self._count(response.status, self._service.clock.monotonic() - began)
        return response

    async def _deliver(self, request: web.Request) -> web.Response:
        service, options = self._service, self._service.options
        source = await self._auth.sender(request)
        check_head(request, options.max_body)
        body = await read_body(request, options.max_body, options.body_timeout)
        async with asyncio.timeout(options.accept_timeout):
            receipt = await service.intake.accept(body, source)
        runs = json.dumps(receipt.runs) if receipt.runs else "[]"
        text = f'{{"accepted":{receipt.alerts},"runs":{runs}}}'
        return web.Response(body=text.encode(), headers=_HEADERS)

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer ``Expect: 100-continue`` (RFC 9110 section 10.1.1) only to those whose body will be read."""
        try:
            await self._auth.sender(request)
            check_head(request, self._service.options.max_body)
        except Refused as refused:
            refused.close = True
            self._count(refused.status, 0.0)
            return problem(refused)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    def _count(self, status: int, seconds: float) -> None:
        metrics = self._service.metrics
        counter = self._codes.get(status)
        if counter is None:
            counter = self._codes[status] = metrics.deliveries_total.labels(str(status))
        counter.inc()
        metrics.intake_duration_seconds.observe(seconds)
