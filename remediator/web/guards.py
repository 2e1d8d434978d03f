"""The API of what guards hold durably: what is open, and its release by a person."""

from __future__ import annotations

from aiohttp import web

from remediator.log import logger
from remediator.web.answers import answer
from remediator.web.call import Call
from remediator.web.shapes import GuardRelease, show_guard_state

_log = logger("web")


async def list_states(call: Call) -> web.Response:
    """What guards hold now: open breakers, and a storm that is on."""
    call.know()
    return await _all(call)


async def release(call: Call) -> web.Response:
    """Release what a guard holds, in one scope or all of it; the runs that it held look again."""
    call.know()
    wish, name = await call.body(GuardRelease), call.path("name")
    await call.service.store.close_guard(name, wish.scope, call.who.actor, wish.reason)
    _log.warning("guard released", guard=name, scope=wish.scope, actor=call.who.actor, reason=wish.reason)
    call.service.wake()
    return await _all(call)


async def _all(call: Call) -> web.Response:
    states = await call.service.store.guard_states(open_only=True)
    call.service.metrics.set_guards([state.guard for state in states])
    return answer({"items": [show_guard_state(state) for state in states], "next": None})
