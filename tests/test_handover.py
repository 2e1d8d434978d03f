"""What people are told when they are needed: complete, bounded, without secrets, and never more than text."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.handover import SECTION, TITLE, Handover, hand_over
from remediator.incident import Incident, Member
from remediator.redact import register_secret
from remediator.rule import Rule
from remediator.run import Run, State
from tests.integrations.corpus import PAYLOADS

NOW = 1_800_000_000.0
RULE = Rule.model_validate(
    {
        "name": "minting-queue-backlog",
        "service": "minting",
        "owner": "team-minting",
        "runbook_url": "https://runbooks.example.com/minting#queue",
        "when": {"alert": "HighQueueDepth"},
        "steps": [{"uses": "kubernetes.scale", "target": "prod"}],
    }
)
PROGRESS: dict[str, Any] = {
    "evidence": {
        "queue": {"probe": "queue", "uses": "http.get", "ok": True, "value": {"waiting": 2950, "workers": 2}},
        "deps": {"probe": "deps", "uses": "http.get", "ok": False, "error": "no connection"},
    },
    "verdicts": [
        {"guard": "cooldown", "decision": "allow", "reason": "", "message": ""},
        {"guard": "rate_limit", "decision": "deny", "reason": "rate_limit", "message": "3 runs within 1h"},
    ],
    "remedies": [
        {"name": "add workers", "state": "ineffective", "reason": "ineffective", "message": "still there after 10m"},
        {"name": "restart", "state": "waiting"},
    ],
    "steps": [
        {
            "id": "scale",
            "uses": "kubernetes.scale",
            "target": "prod",
            "state": "undone",
            "change": {"summary": "minting-worker from 2 to 5 replicas"},
            "outcome": {"summary": "scaled to 5", "data": {}},
        },
        {"id": "step1", "uses": "kubernetes.rollout_restart", "target": "prod", "state": "waiting"},
    ],
}


def _run(state: State = State.FAILED, progress: dict[str, Any] | None = None, **values: Any) -> Run:
    given = {
        "id": "01k9v6p2xq4e6dqn5r8s0t1w2y",
        "rule": RULE.name,
        "rule_digest": RULE.digest,
        "incident_id": "i",
        "reason": "ineffective",
        "message": "acted, but the problem is still there after 10m",
        "mode": "auto",
        "epoch": 1,
        "version": 3,
        "owner": "",
        "lease_until": 0.0,
        "wake_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
        "due_at": NOW,
        "locks": (),
    }
    return Run(state=state, progress=PROGRESS if progress is None else progress, **{**given, **values})


def _incident(labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None) -> Incident:
    labels = {"alertname": "HighQueueDepth", "namespace": "production"} if labels is None else labels
    annotations = {"summary": "the queue is full"} if annotations is None else annotations
    member = Member(labels, annotations, NOW - 2700, NOW - 2700)
    return Incident("i", "k", labels, {"a": member}, NOW - 2700, NOW)


def _told(run: Run | None = None, incident: Incident | None = None, rule: Rule | None = RULE) -> Handover:
    return hand_over(
        run or _run(),
        incident or _incident(),
        rule,
        severity="SEV1",
        external_url="https://remediator.example.com",
        now=NOW,
    )


def test_the_checklist_of_the_runbook_is_answered() -> None:
    """Severity, symptom and impact, steps taken and their outcomes, evidence, links, work-around."""
    annotations = {
        "summary": "the queue is full",
        "description": "2950 jobs wait",
        "impact": "mints are late",
        "workaround": "mint by hand",
        "dashboard_url": "https://grafana.example.com/d/1",
    }
    told = _told(incident=_incident(annotations=annotations))
    assert told.title == "[SEV1] minting: the queue is full"
    sections = dict(told.sections)
    assert sections == {
        "Symptom": "the queue is full\n2950 jobs wait",
        "Impact": "mints are late",
        "Severity": "SEV1",
        "Since": "2027-01-15 07:15 UTC, 45m ago; 1 alert fires",
        "Remediator": f"Rule {RULE.name} gave up (ineffective): acted, but the problem is still there after 10m",
        "Steps taken": "Remedy add workers ineffective: still there after 10m\n"
        "scale: kubernetes.scale on prod: minting-worker from 2 to 5 replicas — undone: scaled to 5",
        "Evidence": 'queue (http.get): {"waiting":2950,"workers":2}\ndeps (http.get): unknown (no connection)',
        "Guards": "rate_limit deny: 3 runs within 1h",
        "Next": "Nothing more is done by itself.",
        "Work-around": "mint by hand",
        "Labels": "alertname=HighQueueDepth\nnamespace=production",
    }
    assert told.links == {
        "Run": "https://remediator.example.com/runs/01k9v6p2xq4e6dqn5r8s0t1w2y",
        "Runbook": "https://runbooks.example.com/minting#queue",
        "Dashboard": "https://grafana.example.com/d/1",
    }
    assert (told.started, told.duration, told.impact) == ("2027-01-15 07:15 UTC", "45m", "mints are late")
    for text in (*sections.values(), *told.links.values()):
        assert text in told.text


@pytest.mark.parametrize("state", list(State))
def test_every_end_has_its_words(state: State) -> None:
    """Whatever became of the run, and however little is known, there is a message."""
    told = _told(_run(state, {}), _incident({}, {}), None)
    assert told.title == "[SEV1] minting-queue-backlog"
    sections = dict(told.sections)
    assert sections["Steps taken"] == "None."
    assert sections["Evidence"] == "Nothing was looked at."
    assert sections["Impact"] == "The alert does not say."
    if state is State.NEEDS_HUMAN:
        assert "an effect may or may not have happened" in sections["Next"]


def test_no_secret_leaves() -> None:
    """Secrets are taken out wherever they stand: in labels, annotations, evidence, outcomes, messages."""
    register_secret("open-sesame-1234")
    card = "4111 1111 1111 1111"
    progress = {
        "evidence": {"p": {"uses": "x.y", "ok": True, "value": {"open-sesame-1234": card}}},
        "steps": [
            {"id": "s", "uses": "a.b", "target": "t", "state": "done", "outcome": {"summary": "open-sesame-1234"}}
        ],
    }
    incident = _incident({"alertname": "A", "token": "open-sesame-1234"}, {"summary": "open-sesame-1234", "x_url": ""})
    told = _told(_run(progress=progress, message="with open-sesame-1234"), incident)
    everything = repr(told.fields()) + told.text
    assert "open-sesame" not in everything
    assert card not in everything


def test_it_is_bounded_and_says_so() -> None:
    """However much an alert, a probe or a run has to say, the message stays readable."""
    many = {f"label{number}": "x" * 5000 for number in range(500)}
    long = {"summary": "s" * 100_000, "description": "d" * 100_000, "impact": "i" * 100_000}
    step = {"uses": "a.b", "target": "t", "state": "done", "outcome": {"summary": "o" * 9999}}
    progress = {
        "evidence": {f"p{number}": {"uses": "x.y", "ok": True, "value": {"v": "e" * 9999}} for number in range(99)},
        "steps": [{"id": f"s{number}", **step} for number in range(99)],
        "verdicts": [{"guard": "g", "decision": "deny", "message": "m" * 9999}] * 99,
    }
    told = _told(_run(progress=progress, message="m" * 99_999), _incident(many, long))
    assert len(told.title) <= TITLE
    assert all(len(text) <= SECTION for _, text in told.sections)
    assert len(told.text) < 30_000
    assert "left out" in told.title
    assert "characters left out" in dict(told.sections)["Evidence"]


def test_no_text_of_an_alert_is_more_than_text() -> None:
    """No label or annotation adds a section, a link that is none, or an invisible character."""
    for payload in PAYLOADS:
        annotations = {"summary": payload, "impact": payload, "evil_url": payload, "runbook_url": payload}
        told = _told(incident=_incident({"alertname": "A", "x": payload}, annotations))
        assert len(told.title.splitlines()) == 1
        assert set(dict(told.sections)) <= {
            *("Symptom", "Impact", "Severity", "Since", "Remediator", "Steps taken", "Evidence", "Guards", "Next"),
            *("Work-around", "Labels"),
        }
        assert set(told.links) <= {"Run", "Runbook", "Evil"}
        assert told.links["Runbook"] == RULE.runbook_url
        assert all(url.startswith(("http://", "https://")) for url in told.links.values())
        assert not set(told.text) & set("\x00\x07\x1b\x7f\x85\u2028\u2029\u202e\u2066")
