"""The API of rules and pauses: what is in force, and the kill switch in its three sizes."""

from __future__ import annotations

from aiohttp import web

from remediator.log import logger
from remediator.rule import Rule
from remediator.store import Pause
from remediator.web.answers import Refused, answer
from remediator.web.call import Call, cursor
from remediator.web.shapes import (
    PauseRequest,
    ResumeRequest,
    RuleBrief,
    ScopedPause,
    ScopedResume,
    show_pause,
    show_rule,
    show_tally,
)

_log = logger("web")
RULE_FILTERS = ("limit", "cursor")


async def list_rules(call: Call) -> web.Response:
    """Rules in force, by name."""
    call.know(*RULE_FILTERS)
    limit, after = call.limit(), call.cursor("rule")
    # Names hold dashes, which no cursor may; hexadecimal keeps their order.
    rules = sorted(call.service.rulebook.rules, key=lambda rule: rule.name)
    rules = [rule for rule in rules if rule.name.encode().hex() > after]
    pauses = await _pauses(call)
    page = rules[:limit]
    following = cursor("rule", page[-1].name.encode().hex()) if len(rules) > limit else None
    return answer({"items": [_shown(call, rule, pauses) for rule in page], "next": following})


async def get_rule(call: Call) -> web.Response:
    """One rule in force, as it was written, and what became of its runs."""
    call.know()
    rule = _rule(call)
    body = rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    tally = show_tally(await call.service.store.tally(rule.name))
    return answer({**_shown(call, rule, await _pauses(call)), "rule": body, "tally": tally})


async def pause_rule(call: Call) -> web.Response:
    """Pause one rule."""
    call.know()
    rule, wish = _rule(call), await call.body(PauseRequest)
    return await _pause(call, f"rule:{rule.name}", wish)


async def resume_rule(call: Call) -> web.Response:
    """End the pause of one rule, which need not be in force any more."""
    call.know()
    wish = await call.body(ResumeRequest)
    return await _resume(call, f"rule:{call.path('name')}", wish.reason)


async def list_pauses(call: Call) -> web.Response:
    """Pauses in force."""
    call.know()
    return await _all(call)


async def pause(call: Call) -> web.Response:
    """Pause everything, a rule or a target."""
    call.know()
    wish = await call.body(ScopedPause)
    kind, _, name = wish.scope.partition(":")
    # A kill switch with a spelling mistake would be believed to be engaged.
    if (kind == "rule" and call.service.rulebook.get(name) is None) or (
        kind == "target" and name not in call.service.targets
    ):
        raise Refused(404, "not-found", f'no {kind} is named "{name}"; nothing was paused')
    return await _pause(call, wish.scope, wish)


async def resume(call: Call) -> web.Response:
    """End a pause and let the runs that it held look again."""
    call.know()
    wish = await call.body(ScopedResume)
    return await _resume(call, wish.scope, wish.reason)


async def _pause(call: Call, scope: str, wish: PauseRequest) -> web.Response:
    now = call.service.clock.now()
    if wish.for_ is not None and wish.for_ <= 0:
        raise Refused(400, "body", "for: a pause lasts longer than 0s; leave it out to pause until resumed")
    until = None if wish.for_ is None else now + wish.for_
    await call.service.store.pause(Pause(scope, wish.reason, call.who.actor, now, until))
    _log.warning("paused", scope=scope, actor=call.who.actor, reason=wish.reason)
    return await _all(call)


async def _resume(call: Call, scope: str, reason: str) -> web.Response:
    await call.service.store.resume(scope, call.who.actor, reason)
    _log.warning("resumed", scope=scope, actor=call.who.actor, reason=reason)
    call.service.wake()
    return await _all(call)


async def _all(call: Call) -> web.Response:
    pauses = await call.service.store.pauses()
    scopes = [pause.scope for pause in pauses]
    call.service.metrics.set_pauses(scopes)
    items = [show_pause(pause) for pause in pauses]
    return answer({"paused": "global" in scopes, "items": items, "next": None})


def _rule(call: Call) -> Rule:
    rule = call.service.rulebook.get(call.path("name"))
    if rule is None:
        raise Refused(404, "not-found", f'no rule is named "{call.path("name")[:80]}"')
    return rule


async def _pauses(call: Call) -> dict[str, Pause]:
    return {pause.scope: pause for pause in await call.service.store.pauses()}


def _shown(call: Call, rule: Rule, pauses: dict[str, Pause]) -> RuleBrief:
    service = call.service
    file = service.rulebook.file_of(rule.name)
    return show_rule(rule, file, service.options.mode_max, pauses.get(f"rule:{rule.name}"))
