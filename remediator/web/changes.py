"""The API of temporary changes: what is in force and until when, and a person's word to put it back or to keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from remediator.clock import format_duration, format_instant
from remediator.errors import NotFound
from remediator.log import logger
from remediator.redact import redact
from remediator.run import LIVE, Kind, Run, State
from remediator.web.answers import answer
from remediator.web.call import Call, cursor
from remediator.web.shapes import Instant, Request, Text

_log = logger("web")
CHANGE_FILTERS = ("state", "rule", "limit", "cursor")


class ChangeWish(Request):
    """A person's word about a temporary change."""

    reason: Text = Field(min_length=1, description="Why; shown with the change and kept in the audit.")


class ChangeView(TypedDict):
    """A change that is in force for a time only, and its way back.

    ``run`` made it, ``settle`` is how long its alert must stay resolved, at ``deadline`` it goes back in any case.
    """

    id: str
    rule: str
    run: str
    step: str
    action: str
    target: str
    subject: str
    summary: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    made_at: Instant
    settle: str
    deadline: Instant
    state: str
    reason: str
    message: str
    updated_at: Instant


class ChangeList(TypedDict):
    """Temporary changes, newest first."""

    items: list[ChangeView]
    next: str | None


def show_change(run: Run) -> ChangeView:
    """The temporary change that ``run`` is the way back of."""
    change = run.progress["change"]
    made = change["change"]
    return {
        "id": run.id,
        "rule": run.rule,
        "run": run.about.partition("/")[0],
        "step": change["id"],
        "action": change["made_by"],
        "target": change["target"],
        "subject": run.locks[0].subject,
        "summary": redact(made["summary"]),
        "before": redact(made["before"]),
        "after": redact(made["after"]),
        "made_at": format_instant(change["made_at"]),
        "settle": format_duration(change["settle"]),
        "deadline": format_instant(change["deadline"]),
        "state": run.state.value,
        "reason": run.reason,
        "message": redact(run.message),
        "updated_at": format_instant(run.updated_at),
    }


async def list_changes(call: Call) -> web.Response:
    """Temporary changes, newest first: those in force, or those in the given states."""
    call.know(*CHANGE_FILTERS)
    limit = call.limit()
    states = [State(value) for value in call.choices("state", [state.value for state in State])]
    found = await call.service.store.runs(
        kinds=(Kind.REVERT,),
        states=states or sorted(LIVE),
        rule=call.one("rule"),
        before=call.cursor("change"),
        limit=limit + 1,
    )
    page = found[:limit]
    following = cursor("change", page[-1].id) if len(found) > limit else None
    return answer({"items": [show_change(run) for run in page], "next": following})


async def get_change(call: Call) -> web.Response:
    """One temporary change, also one that has gone back."""
    call.know()
    return answer(show_change(await _change(call)))


async def revert_change(call: Call) -> web.Response:
    """Put a temporary change back now, whether its alert fires or not."""
    call.know()
    wish, run = await call.body(ChangeWish), await _change(call)
    after = await call.service.store.hasten(run.id, call.who.actor, wish.reason)
    _log.info("a temporary change is to go back now", run=run.id, actor=call.who.actor)
    call.service.wake()
    return answer(show_change(after))


async def keep_change(call: Call) -> web.Response:
    """Make a temporary change permanent: it does not go back by itself any more."""
    call.know()
    wish, run = await call.body(ChangeWish), await _change(call)
    after = await call.service.store.cancel(run.id, call.who.actor, wish.reason)
    _log.info("a temporary change is permanent now", run=run.id, actor=call.who.actor)
    return answer(show_change(after))


async def _change(call: Call) -> Run:
    run = await call.service.store.run(call.path("id"))
    if run.kind is not Kind.REVERT:
        raise NotFound(f"run {run.id} is no temporary change; `remediator change list` lists them")
    return run
