"""Why a run did what it did, as sentences for a reviewer: told from its audit records and its plan alone. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

from remediator.action import canonical_json
from remediator.audit import AuditRecord
from remediator.clock import format_duration, format_instant
from remediator.errors import InputError
from remediator.incident import Incident
from remediator.matcher import parse_matchers
from remediator.redact import redact
from remediator.rule import Rule, guard_name
from remediator.run import Run


class Told(TypedDict):
    """One thing that happened. ``what`` is a stable word: that of the audit record, or matcher, evidence, guard, …"""

    at: str
    what: str
    text: str


def why(run: Run, incident: Incident, rule: Rule | None, records: Sequence[AuditRecord]) -> list[Told]:
    """The whole story of ``run``, oldest first; ``rule`` is the one it was planned by, None if nobody has it any more.

    ``records`` are those of the run, in order.
    """
    story: list[Told] = []
    seen: dict[str, str] = {}
    went_on = _went_on(records)
    for record in records:
        detail = json.loads(record.body)["detail"]
        at = format_instant(record.at)

        def tell(what: str, text: str, at: str = at) -> None:
            story.append({"at": at, "what": what, "text": text})

        if record.event == "run.retry_requested":
            seen.clear()  # What is seen from here on is seen anew, also where it is the same.
        for text in _evidence(detail.get("evidence", {}), seen):
            tell("evidence", text)
        for verdict in detail.get("verdicts", ()):
            tell("guard", _verdict(verdict))
        for text in _SENTENCES.get(record.event, _moved)(record, detail):
            tell(record.event, text)
        if record.event == "run.queued" and rule is not None:
            for what, text in _plan(rule, incident, went_on):
                tell(what, text)
    verify = run.progress.get("verify")
    if verify:
        story.append({"at": format_instant(run.updated_at), "what": "verify", "text": _looks(verify)})
    return [{**told, "text": redact(told["text"])} for told in story]


def matched(rule: Rule, labels: Mapping[str, str]) -> Iterator[tuple[bool, str]]:
    """Whether ``rule`` answers an alert with ``labels``: its alert and each matcher, with a sentence."""
    name = labels.get("alertname", "")
    yes = name in rule.when.alert
    yield yes, f'alert "{name}" is {"" if yes else "not "}one of {", ".join(rule.when.alert)}'
    for text in rule.when.matchers:
        try:
            for matcher in parse_matchers(text):
                value = labels.get(matcher.name)
                has = f'{matcher.name} is "{value}"' if value is not None else f"there is no {matcher.name}"
                yield matcher.matches(labels), f"{matcher} ({has})"
        except InputError as error:
            yield False, f"{text} cannot be read any more: {error}"


def _went_on(records: Sequence[AuditRecord]) -> bool:
    """Whether the conditions let the run pass: it was asked about, licensed, observed, or a guard spoke after them."""
    for record in records:
        if record.event in ("approval.requested", "effect.intent", "run.observed"):
            return True
        if '"verdicts":[{' in record.body:
            return True
    return False


def _plan(rule: Rule, incident: Incident, went_on: bool) -> Iterator[tuple[str, str]]:
    """What the rule asks: its matchers against the alerts, its conditions, guards and remedies."""
    for member in incident.members.values():
        for yes, text in matched(rule, member.labels):
            yield "matcher", f"{'matches' if yes else 'does not match now'}: {text}"
        break
    if rule.when.for_:
        yield "matcher", f"acts once the alert has fired for {format_duration(rule.when.for_)}"
    for key, source in (("condition", rule.when.condition), ("if", rule.if_)):
        if source is not None:
            yield key, f"{key} `{_line(source)}`" + (": so, for the run went on" if went_on else "")
    names = [guard_name(entry) for entry in rule.guards]
    yield "guards", f"guards of the rule: {', '.join(names) or 'none'}"
    for remedy in rule.tries:
        condition = f", if `{_line(remedy.if_)}`" if remedy.if_ else ""
        steps = ", ".join(step.uses or "wait" for step in remedy.steps)
        until = f"; helped when `{_line(remedy.verify.until)}`" if remedy.verify else "; nobody asks whether it helped"
        yield "remedy", f"remedy {remedy.name or '(unnamed)'}{condition}: {steps}{until}"


def _evidence(evidence: Mapping[str, Any], seen: dict[str, str]) -> Iterator[str]:
    """What probes saw that they had not seen before."""
    for name, found in evidence.items():
        said = canonical_json(found["value"]) if found["ok"] else f"unknown: {found['error']}"
        if seen.get(name) != said:
            seen[name] = said
            yield f"probe {name} ({found['uses']} on {found['target']}) saw {said}"


def _verdict(verdict: Mapping[str, Any]) -> str:
    message = f": {verdict['message']}" if verdict.get("message") else ""
    return f"guard {verdict['guard']} says {verdict['decision']}{message}"


def _looks(verify: Mapping[str, Any]) -> str:
    since, until = format_instant(verify["since"]), format_instant(verify["until"])
    gone = f"; the problem has been away since {format_instant(verify['gone_since'])}" if "gone_since" in verify else ""
    return f"looked {verify['looks']} more times whether it helped, from {since}, at the latest until {until}{gone}"


def _line(source: str) -> str:
    return " ".join(source.split())


Detail = Mapping[str, Any]


def _queued(record: AuditRecord, detail: Detail) -> Iterator[str]:
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(detail["labels"].items()))
    since = format_instant(detail["starts_at"])
    yield f"delivery {detail['delivery']} told that {{{labels}}} fires since {since}; rule {record.rule} answers it"
    if detail["due_at"] > record.at:
        yield f"due at {format_instant(detail['due_at'])}"


def _recovered(record: AuditRecord, detail: Detail) -> Iterator[str]:
    yield f"its owner was gone; {detail['owner']} took it over"


def _asked(record: AuditRecord, detail: Detail) -> Iterator[str]:
    changes = "; ".join(f"{change['id']}: {change['change']['summary']}" for change in detail["changes"])
    again = " (another change than was granted before)" if detail.get("was_granted") else ""
    until = format_instant(detail["expires_at"])
    yield f"asked people until {until}, {detail['needed']} yes needed{again}: {changes} [{detail['digest'][:12]}]"


def _granted(record: AuditRecord, detail: Detail) -> Iterator[str]:
    comment = f": {detail['comment']}" if detail["comment"] else ""
    yield f"{record.actor} said yes ({detail['granted']} of {detail['needed']}){comment}"


def _rejected(record: AuditRecord, detail: Detail) -> Iterator[str]:
    yield f"{record.actor} said no" + (f": {detail['comment']}" if detail["comment"] else "")


def _intent(record: AuditRecord, detail: Detail) -> Iterator[str]:
    change = detail["change"]
    what = "licensed to put in order" if detail.get("closing") else "licensed to act"
    of = f" of remedy {detail['remedy']}" if detail.get("remedy") else ""
    try_ = f", try {detail['attempt']}" if detail["attempt"] > 1 else ""
    values = f" (from {canonical_json(change['before'])} to {canonical_json(change['after'])})"
    where = f"{detail['uses']} on {detail['target']}"
    yield f"{what}, {detail['mode']}: step {detail['id']}{of}{try_}: {where}: {change['summary']}{values}"


def _outcome(record: AuditRecord, detail: Detail) -> Iterator[str]:
    yield f"{detail['action']} on {detail['target']}: {detail['state']}: {detail['outcome'].get('summary', '')}"


def _retried(record: AuditRecord, detail: Detail) -> Iterator[str]:
    yield f"{detail['message']}; it had been {detail['was']} ({detail['before']['reason']}) and changed nothing"


def _late(record: AuditRecord, detail: Detail) -> Iterator[str]:
    yield f"an owner that had lost the run said afterwards: {detail['outcome'].get('summary', '')}"


def _in_force(record: AuditRecord, detail: Detail) -> Iterator[str]:
    change = detail["change"]
    settle, deadline = format_duration(change["settle"]), format_instant(change["deadline"])
    yield f"{change['change']['summary']}: goes back once resolved for {settle}, or at {deadline}"


def _hastened(record: AuditRecord, detail: Detail) -> Iterator[str]:
    yield f"{record.actor} asked for it to go back now: {detail['comment']}"


def _moved(record: AuditRecord, detail: Detail) -> Iterator[str]:
    """Any other record: its own words."""
    state = record.event.removeprefix("run.")
    reason = f" ({detail['reason']})" if detail.get("reason") else ""
    by = f" by {record.actor}" if record.actor != "remediator" else ""
    yield f"{state}{reason}{by}: {detail.get('message') or detail.get('comment') or ''}".rstrip(": ")


def _nothing(record: AuditRecord, detail: Detail) -> Iterator[str]:
    return iter(())


_SENTENCES: Mapping[str, Callable[[AuditRecord, Detail], Iterator[str]]] = {
    "run.queued": _queued,
    "run.started": _nothing,
    "run.resumed": _nothing,
    "run.recovered": _recovered,
    "approval.requested": _asked,
    "approval.granted": _granted,
    "approval.rejected": _rejected,
    "effect.intent": _intent,
    "effect.outcome": _outcome,
    "effect.late": _late,
    "run.retry_requested": _retried,
    "change.in_force": _in_force,
    "change.revert_requested": _hastened,
}
