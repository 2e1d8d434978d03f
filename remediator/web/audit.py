"""The API of the audit chain: read it, verify it, take it away."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from remediator.anchor import Anchor, Walk, make_anchor
from remediator.audit import AuditRecord, Entry
from remediator.errors import InputError
from remediator.web.answers import HEADERS, Refused, answer
from remediator.web.call import Call, cursor
from remediator.web.shapes import AcceptLoss, show_record

AUDIT_FILTERS = ("run", "rule", "event", "order", "limit", "cursor")
VERIFY_PARAMETERS = ("records", "head")
_NEWEST = 1 << 62
_BATCH = 1000
_STALLED = 30.0
"""A client that takes nothing for so many seconds is let go."""


async def list_records(call: Call) -> web.Response:
    """Audit records, newest first; ``order=asc`` begins with the oldest."""
    call.know(*AUDIT_FILTERS)
    limit = call.limit()
    order = call.choice("order", ("asc", "desc"), "desc")
    at = call.cursor(f"audit-{order}") or ("0" if order == "asc" else str(_NEWEST))
    if not at.isdigit() or int(at[:20]) > _NEWEST:
        raise Refused(400, "parameter", 'cursor: take it from "next" of the page before')
    records = await call.service.store.audit(
        after=int(at) if order == "asc" else 0,
        before=int(at) if order == "desc" else 0,
        limit=limit + 1,
        run=call.one("run"),
        rule=call.one("rule"),
        event=call.one("event"),
    )
    page = records[:limit]
    items = [show_record(record, json.loads(record.body)["detail"]) for record in page]
    following = cursor(f"audit-{order}", page[-1].sequence) if len(records) > limit else None
    return answer({"items": items, "next": following})


async def _batches(call: Call) -> AsyncIterator[list[AuditRecord]]:
    batch: list[AuditRecord] = []
    async for record in call.service.store.audit_stream():
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def verify_records(call: Call) -> web.Response:
    """Recompute the whole chain; with ``records`` and ``head``, compare it with what was kept elsewhere.

    The answer is 200 whether the chain is whole or not; ``ok`` tells.
    """
    call.know(*VERIFY_PARAMETERS)
    walk = Walk(_anchor(call))
    async for batch in _batches(call):
        # In a thread: a thousand digests are milliseconds that deliveries would have to wait for.
        if not await asyncio.to_thread(walk.add, batch):
            break
    return answer(walk.result()._asdict())


def _anchor(call: Call) -> Anchor | None:
    records, head = call.one("records"), call.one("head")
    if not records and not head:
        return None
    try:
        return make_anchor(int(records[:19]) if records.isascii() and records.isdigit() else None, head)
    except InputError as error:
        raise Refused(400, "parameter", f"records and head: {error}") from None


async def accept_loss(call: Call) -> web.Response:
    """Take the store as it is although its audit does not fit its checkpoint: rules may act by themselves again."""
    call.know()
    wish = await call.body(AcceptLoss)
    return answer((await call.service.accept_loss(call.who.actor, wish.reason)).as_json())


def _jsonl(batch: list[AuditRecord]) -> str:
    return "".join(json.dumps(record._asdict(), ensure_ascii=False) + "\n" for record in batch)


def _csv(batch: list[AuditRecord]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(batch)
    return out.getvalue()


FORMATS: dict[str, tuple[str, str, Callable[[list[AuditRecord]], str]]] = {
    "jsonl": ("application/jsonl", "", _jsonl),
    "csv": ("text/csv", ",".join(AuditRecord._fields) + "\r\n", _csv),
}
"""Format → media type, what stands before the first record, and how a batch is written."""


async def export_records(call: Call) -> web.StreamResponse:
    """Every record with the digests that prove it. The export is itself recorded, as its last record."""
    call.know("format")
    form = call.choice("format", FORMATS, "jsonl")
    kind, head, write = FORMATS[form]
    detail = {"address": call.request.remote or "", "format": form}
    await call.service.store.append(Entry(event="audit.exported", actor=call.who.actor, detail=detail))
    disposition = f'attachment; filename="remediator-audit.{form}"'
    response = web.StreamResponse(
        headers={**HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Disposition": disposition}
    )
    await response.prepare(call.request)
    await response.write(head.encode())
    async for batch in _batches(call):
        async with asyncio.timeout(_STALLED):
            await response.write((await asyncio.to_thread(write, batch)).encode())
    await response.write_eof()
    return response
