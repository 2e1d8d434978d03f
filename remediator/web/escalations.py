"""The API of people who are called: who was told what about a run, and the word that somebody takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from remediator.clock import format_instant
from remediator.errors import Conflict
from remediator.log import logger
from remediator.redact import redact
from remediator.run import LIVE, Kind, Run
from remediator.store import Store
from remediator.web.answers import answer
from remediator.web.call import Call
from remediator.web.shapes import Instant, Request, Text, instant

_log = logger("web")
_TRIES = 20
_PAUSE = 0.25


class Acknowledge(Request):
    """A person's word: I take over, call nobody else."""

    comment: Text = Field(default="", description="Why, or what is being done; kept in the audit.")


class CallView(TypedDict):
    """One call of an escalation: ``state`` is waiting, failing, sent, skipped, stopped, failed or unknown."""

    name: str
    uses: str
    target: str
    state: str
    tries: int
    message: str
    next_at: Instant | None
    sent_at: Instant | None
    resolved: str | None
    """What became of the message that it is over, in the same words; null where there is none."""


class EscalationView(TypedDict):
    """Who is called because a run needs people, or asks them something."""

    id: str
    about: str
    policy: str
    state: str
    reason: str
    message: str
    acknowledged: Mapping[str, Any] | None
    calls: list[CallView]
    created_at: Instant
    updated_at: Instant


class EscalationList(TypedDict):
    """Escalations about one run."""

    items: list[EscalationView]
    next: str | None


async def escalations_of(store: Store, run_id: str) -> Sequence[Run]:
    """The escalations about a run, newest first."""
    return await store.runs(kinds=(Kind.ESCALATION,), about=run_id)


def show_escalation(run: Run) -> EscalationView:
    """An escalation as people look at it."""
    progress = run.progress
    count = len(progress["calls"])
    acknowledged = progress.get("acknowledged")
    return {
        "id": run.id,
        "about": run.about,
        "policy": progress["policy"],
        "state": run.state.value,
        "reason": run.reason,
        "message": run.message,
        "acknowledged": acknowledged and {**acknowledged, "at": format_instant(acknowledged["at"])},
        "calls": [
            _call(call, progress["sends"][number], progress["sends"][count + number])
            for number, call in enumerate(progress["calls"])
        ],
        "created_at": format_instant(run.created_at),
        "updated_at": format_instant(run.updated_at),
    }


def _call(call: Mapping[str, Any], send: Mapping[str, Any], over: Mapping[str, Any]) -> CallView:
    return {
        "name": call.get("name", ""),
        "uses": call["uses"],
        "target": call["target"],
        "state": send["state"],
        "tries": send["tries"],
        "message": redact(send.get("message", "")),
        "next_at": instant(send["next_at"]) if send["state"] in ("waiting", "failing") else None,
        "sent_at": instant(send.get("sent_at")),
        "resolved": over["state"] if over["state"] != "waiting" else None,
    }


async def list_escalations(call: Call) -> web.Response:
    """Who was called about a run, and what became of each call."""
    call.know()
    run = await call.service.store.run(call.path("id"))
    found = await escalations_of(call.service.store, run.id)
    return answer({"items": [show_escalation(each) for each in found], "next": None})


async def acknowledge_run(call: Call) -> web.Response:
    """Take over: nobody else is called about this run. Takes the id of the run, or of the escalation itself."""
    call.know()
    wish = await call.body(Acknowledge)
    store = call.service.store
    run = await store.run(call.path("id"))
    live = [run] if run.kind is Kind.ESCALATION else [e for e in await escalations_of(store, run.id) if e.state in LIVE]
    if not live:
        raise Conflict(f"nobody is being called about run {run.id}")
    done = [await _acknowledge(store, each, call.who.actor, wish.comment) for each in live]
    _log.info("somebody takes over", run=run.id, actor=call.who.actor)
    call.service.wake()
    return answer({"items": [show_escalation(each) for each in done], "next": None})


async def _acknowledge(store: Store, run: Run, actor: str, comment: str) -> Run:
    """Wait out a message that is just being sent: nobody should have to say it twice. Raises Conflict."""
    for _ in range(_TRIES):
        try:
            return await store.acknowledge(run.id, actor, comment)
        except Conflict:
            run = await store.run(run.id)
            if run.state not in LIVE or "acknowledged" in run.progress:
                raise
            await asyncio.sleep(_PAUSE)
    return await store.acknowledge(run.id, actor, comment)
