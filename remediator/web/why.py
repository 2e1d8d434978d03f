"""The API of reasons: why a run did what it did, and what became of an alert, from the record."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from typing_extensions import TypedDict

from remediator.errors import NotFound
from remediator.incident import Incident
from remediator.redact import redact
from remediator.rule import Rule
from remediator.run import Kind, Run
from remediator.store import Store
from remediator.web.answers import Refused, answer
from remediator.web.call import Call
from remediator.web.shapes import IncidentView, RunBrief, show_brief, show_incident
from remediator.why import Told, matched, why

ALERT_FILTERS = ("label",)
_INCIDENTS = 1000
"""As many of the newest incidents are searched for an alert."""
_SHOWN = 10
_RECORDS = 2000


class FollowStory(TypedDict):
    """A run that followed: the way back of a change, or people who were called."""

    id: str
    kind: str
    state: str
    story: list[Told]


class RunStory(TypedDict):
    """Why a run did what it did, in order."""

    run: str
    rule: str
    state: str
    reason: str
    message: str
    story: list[Told]
    follows: list[FollowStory]


class MatcherView(TypedDict):
    """One thing that a rule asks of an alert."""

    matched: bool
    text: str


class RuleAnswer(TypedDict):
    """Whether a rule in force answers an alert, and why."""

    name: str
    matched: bool
    mode: str
    matchers: list[MatcherView]
    condition: str | None


class IncidentRuns(TypedDict):
    """One life of an alert and the runs for it."""

    incident: IncidentView
    runs: list[RunBrief]


class AlertStory(TypedDict):
    """What became of an alert: its newest incidents with their runs, and which rules in force answer it."""

    labels: Mapping[str, str]
    incidents: list[IncidentRuns]
    rules: list[RuleAnswer]


async def _told(store: Store, run: Run, incident: Incident) -> list[Told]:
    try:
        rule = Rule.from_body(await store.rule_body(run.rule_digest))
    except (NotFound, ValueError):
        rule = None
    return why(run, incident, rule, await store.audit(run=run.id, limit=_RECORDS))


async def why_run(call: Call) -> web.Response:
    """Why a run did what it did: alert, matchers, evidence, guards, people, effects, end; ``@latest`` is the newest."""
    call.know()
    store = call.service.store
    run = await store.run(call.path("id"))
    incident = await store.incident(run.incident_id)
    follows = [*await store.runs(kinds=(Kind.REVERT, Kind.ESCALATION), about=run.id)]
    shown: RunStory = {
        "run": run.id,
        "rule": run.rule,
        "state": run.state.value,
        "reason": run.reason,
        "message": redact(run.message),
        "story": await _told(store, run, incident),
        "follows": [
            {
                "id": each.id,
                "kind": each.kind.value,
                "state": each.state.value,
                "story": await _told(store, each, incident),
            }
            for each in reversed(follows)
        ],
    }
    return answer(shown)


async def why_alert(call: Call) -> web.Response:
    """What became of the alerts with these labels (``label=name=value``), and which rules in force answer them."""
    call.know(*ALERT_FILTERS)
    labels = _labels(call)
    store = call.service.store
    found = [i for i in await store.incidents(limit=_INCIDENTS) if _holds(i, labels)][:_SHOWN]
    incidents: list[IncidentRuns] = []
    for incident in found:
        runs = await store.runs(incident=incident.id, kinds=tuple(Kind))
        incidents.append({"incident": show_incident(incident), "runs": [show_brief(run, incident) for run in runs]})
    # A rule may ask for labels that were not named: those of the newest alert that has the named ones.
    known = next((dict(m.labels) for i in found for m in i.members.values() if labels.items() <= m.labels.items()), {})
    rules = [_answer(rule, {**known, **labels}) for rule in call.service.rulebook.rules]
    shown: AlertStory = {"labels": redact({**known, **labels}), "incidents": incidents, "rules": rules}
    return answer(shown)


def _labels(call: Call) -> dict[str, str]:
    labels = {}
    for pair in call.request.query.getall("label", []):
        name, equals, value = pair.partition("=")
        if not equals or not name or len(pair) > 4000:
            raise Refused(400, "parameter", f'label: "{pair[:80]}" is not name=value')
        labels[name] = value
    if not labels:
        raise Refused(400, "parameter", "label: name at least one label, as label=alertname=HighQueueDepth")
    return labels


def _holds(incident: Incident, labels: Mapping[str, str]) -> bool:
    return any(labels.items() <= member.labels.items() for member in incident.members.values())


def _answer(rule: Rule, labels: Mapping[str, str]) -> RuleAnswer:
    said = [*matched(rule, labels)]
    return {
        "name": rule.name,
        "matched": all(yes for yes, _ in said),
        "mode": rule.mode.value,
        "matchers": [{"matched": yes, "text": redact(text)} for yes, text in said],
        "condition": rule.when.condition,
    }
