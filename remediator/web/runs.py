"""The API of runs and incidents: what happened, what waits, and the answers of people."""

from __future__ import annotations

from aiohttp import web

from remediator.crashpoint import crashpoint
from remediator.log import logger
from remediator.run import Kind, Run, State
from remediator.web.answers import answer
from remediator.web.call import Call, cursor
from remediator.web.escalations import EscalationView, escalations_of, show_escalation
from remediator.web.shapes import Cancel, Retry, RunView, Vote, show_brief, show_incident, show_run

_log = logger("web")
RUN_FILTERS = ("state", "rule", "incident", "kind", "limit", "cursor")
INCIDENT_FILTERS = ("open", "limit", "cursor")


class RunWhole(RunView):
    """A run, and who was called about it."""

    escalations: list[EscalationView]


async def list_runs(call: Call) -> web.Response:
    """Runs, newest first: those that carry out rules, or those of the given kinds."""
    call.know(*RUN_FILTERS)
    limit = call.limit()
    states = [State(value) for value in call.choices("state", [state.value for state in State])]
    runs = await call.service.store.runs(
        states=states,
        rule=call.one("rule"),
        incident=call.one("incident"),
        kinds=[Kind(value) for value in call.choices("kind", [kind.value for kind in Kind])] or (Kind.REMEDY,),
        before=call.cursor("run"),
        limit=limit + 1,
    )
    page = runs[:limit]
    incidents = await call.service.store.incidents_of({run.incident_id for run in page})
    items = [show_brief(run, incidents.get(run.incident_id)) for run in page]
    return answer({"items": items, "next": cursor("run", page[-1].id) if len(runs) > limit else None})


async def get_run(call: Call) -> web.Response:
    """One run with everything that led to where it is; ``@latest`` is the newest."""
    call.know()
    return await _shown(call, await call.service.store.run(call.path("id")))


async def _shown(call: Call, run: Run) -> web.Response:
    store = call.service.store
    incident = await store.incident(run.incident_id)
    shown = show_run(run, incident, await store.effects(run.id), await store.approval(run.id))
    called = [show_escalation(each) for each in await escalations_of(store, run.id)]
    return answer({**shown, "escalations": called})


async def approve_run(call: Call) -> web.Response:
    """Say yes to exactly the changes that the digest stands for."""
    return await _vote(call, yes=True)


async def reject_run(call: Call) -> web.Response:
    """Say no; the run ends as denied."""
    return await _vote(call, yes=False)


async def _vote(call: Call, *, yes: bool) -> web.Response:
    call.know()
    vote = await call.body(Vote)
    run_id = call.path("id")
    run = await call.service.store.vote(run_id, vote.digest, call.who.actor, yes, vote.comment)
    crashpoint("approval.after_vote")
    _log.info("approved" if yes else "rejected", run=run_id, actor=call.who.actor, digest=vote.digest)
    call.service.wake()
    return await _shown(call, run)


async def cancel_run(call: Call) -> web.Response:
    """Cancel a run that has not begun to act, or close one that waits for a person."""
    call.know()
    wish = await call.body(Cancel)
    run = await call.service.store.cancel(call.path("id"), call.who.actor, wish.comment, wish.found)
    _log.info("cancelled", run=run.id, actor=call.who.actor, found=wish.found)
    return await _shown(call, run)


async def retry_run(call: Call) -> web.Response:
    """Have a run tried once more that ended without changing anything, while its alert fires."""
    call.know()
    wish = await call.body(Retry)
    run = await call.service.store.retry(call.path("id"), call.who.actor, wish.reason)
    _log.info("tried again", run=run.id, actor=call.who.actor)
    call.service.wake()
    return await _shown(call, run)


async def list_incidents(call: Call) -> web.Response:
    """Incidents, newest first."""
    call.know(*INCIDENT_FILTERS)
    limit = call.limit()
    open_only = call.choice("open", ("true", "false"), "false") == "true"
    found = await call.service.store.incidents(open_only=open_only, before=call.cursor("incident"), limit=limit + 1)
    page = found[:limit]
    following = cursor("incident", page[-1].id) if len(found) > limit else None
    return answer({"items": [show_incident(incident) for incident in page], "next": following})
