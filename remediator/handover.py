"""What a person who takes over must know: how bad, since when, what was seen, what was tried, where to look. Pure.

The parts are those that the escalation checklist of the runbooks asks for: severity, symptoms and impact, steps already
taken, logs and metrics, what happens next, work-around.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from remediator.action import canonical_json
from remediator.clock import format_duration
from remediator.excerpt import is_link, one_line, plain, shorten
from remediator.incident import Incident
from remediator.redact import redact, redact_text
from remediator.rule import Rule
from remediator.run import Run, State

TITLE = 200
SECTION = 2500
_ITEM = 400
_LABELS = 40
_SAID = {
    State.FAILED: "gave up",
    State.NEEDS_HUMAN: "does not know what it did",
    State.EXPIRED: "came too late to act",
    State.DENIED: "was not allowed to act",
    State.HELD: "waits for an answer",
}
_NEXT = {
    State.NEEDS_HUMAN: "Nothing more is done by itself: an effect may or may not have happened. Look at the target, "
    "then close the run.",
    State.HELD: "It acts once somebody has said yes, and not otherwise.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """The message in all its forms. Texts hold no secrets, no invisible characters, and are bounded."""

    title: str
    sections: Sequence[tuple[str, str]]
    links: Mapping[str, str]
    symptom: str
    impact: str
    started: str
    duration: str
    workaround: str
    url: str
    approval: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All of it as plain text."""
        parts = [f"{name}\n{said}" for name, said in self.sections]
        parts += ["\n".join(f"{name}: {url}" for name, url in self.links.items())] if self.links else []
        return "\n\n".join([self.title, *parts])

    def fields(self) -> dict[str, Any]:
        """What ``${{ handover.… }}`` finds."""
        return {
            "title": self.title,
            "text": self.text,
            "sections": [{"title": name, "text": said} for name, said in self.sections],
            "links": dict(self.links),
            "symptom": self.symptom,
            "impact": self.impact,
            "started": self.started,
            "duration": self.duration,
            "workaround": self.workaround,
            "url": self.url,
        }


def hand_over(
    run: Run, incident: Incident, rule: Rule | None, *, severity: str, external_url: str, now: float
) -> Handover:
    """The message about ``run`` as it is. ``rule`` is None where it cannot be read any more."""
    annotations = {name: redact_text(plain(text)) for name, text in incident.annotations.items()}
    what = annotations.get("summary") or incident.common_labels.get("alertname", "") or run.rule
    service = rule.service if rule else ""
    head = " ".join(filter(None, (severity and f"[{severity}]", service and f"{service}:", what)))
    impact = annotations.get("impact", "")
    workaround = annotations.get("workaround", "")
    url = f"{external_url}/runs/{run.id}" if external_url else ""
    sections = {
        "Symptom": _symptom(annotations, what),
        "Impact": impact or "The alert does not say.",
        "Severity": severity or "The alert does not say.",
        "Since": f"{_moment(incident.opened_at)}, {_span(now - incident.opened_at)} ago; {_firing(incident)}",
        "Remediator": f"Rule {run.rule} {_SAID.get(run.state, run.state.value)} ({run.reason}): {run.message}",
        "Steps taken": "\n".join(_steps(run.progress)) or "None.",
        "Evidence": "\n".join(_evidence(run.progress)) or "Nothing was looked at.",
        "Guards": "\n".join(_noes(run.progress)),
        "Next": _NEXT.get(run.state, "Nothing more is done by itself."),
        "Work-around": workaround or "None is known.",
        "Labels": "\n".join(_labels(incident.common_labels)),
    }
    return Handover(
        title=shorten(redact_text(one_line(head)), TITLE),
        sections=[(name, shorten(redact_text(plain(said)), SECTION)) for name, said in sections.items() if said],
        links=_links(run, rule, annotations, url),
        symptom=shorten(one_line(what), _ITEM),
        impact=shorten(one_line(impact), _ITEM),
        started=_moment(incident.opened_at),
        duration=_span((incident.ended_at or now) - incident.opened_at),
        workaround=shorten(one_line(workaround), _ITEM),
        url=url,
    )


def _moment(at: float) -> str:
    """To the minute, as the runbooks write it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: float) -> str:
    """To the second below an hour, to the minute above."""
    unit = 1 if seconds < 3600 else 60
    return format_duration(max(0.0, round(seconds / unit) * unit))


def _firing(incident: Incident) -> str:
    count = len(incident.firing())
    return "resolved meanwhile" if not count else "1 alert fires" if count == 1 else f"{count} alerts fire"


def _symptom(annotations: Mapping[str, str], what: str) -> str:
    description = annotations.get("description", "")
    return f"{what}\n{description}" if description and description != what else what


def _steps(progress: Mapping[str, Any]) -> Iterator[str]:
    """One line a step that was begun, under the name of its remedy where there are several."""
    for remedy in progress.get("remedies", ()):
        if remedy.get("state") not in (None, "waiting"):
            why = f": {remedy['message']}" if remedy.get("message") else ""
            yield shorten(one_line(f"Remedy {remedy.get('name') or '(unnamed)'} {remedy.get('state')}{why}"), _ITEM)
    for step in progress.get("steps", ()):
        if step.get("state") == "waiting" and not step.get("outcome"):
            continue
        change = step.get("change") or {}
        outcome = (step.get("outcome") or {}).get("summary", "")
        what = f"{step.get('id', '?')}: {step.get('uses') or 'wait'}"
        where = f" on {step['target']}" if step.get("target") else ""
        told = f"{what}{where}: {change.get('summary', '')} — {step.get('state')}"
        yield shorten(one_line(f"{told}: {outcome}" if outcome else told), _ITEM)


def _evidence(progress: Mapping[str, Any]) -> Iterator[str]:
    for name, seen in progress.get("evidence", {}).items():
        said = canonical_json(redact(seen["value"])) if seen.get("ok") else f"unknown ({seen.get('error', '')})"
        yield shorten(one_line(f"{name} ({seen.get('uses', '')}): {said}"), _ITEM)


def _noes(progress: Mapping[str, Any]) -> Iterator[str]:
    for verdict in progress.get("verdicts", ()):
        if verdict.get("decision") != "allow":
            said = f"{verdict.get('guard')} {verdict.get('decision')}: {verdict.get('message', '')}"
            yield shorten(one_line(said), _ITEM)


def _labels(labels: Mapping[str, str]) -> Iterator[str]:
    for number, (name, value) in enumerate(sorted(labels.items())):
        if number == _LABELS:
            yield f"… [{len(labels) - _LABELS} labels left out]"
            return
        yield shorten(one_line(f"{name}={value}"), 200)


def _links(run: Run, rule: Rule | None, annotations: Mapping[str, str], url: str) -> dict[str, str]:
    """Where to look: the run, the runbook, and whatever the alert links to. Only web addresses, never code."""
    wanted = {"Run": url, "Runbook": rule.runbook_url if rule else ""}
    wanted["Runbook"] = wanted["Runbook"] or annotations.get("runbook_url", "")
    for name, text in annotations.items():
        if name.endswith("_url") and name != "runbook_url":
            wanted[one_line(name.removesuffix("_url")).capitalize()[:50]] = text
    found = {name: address for name, address in wanted.items() if name and is_link(address)}
    return dict(list(found.items())[:10])
