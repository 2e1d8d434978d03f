"""What the API shows and takes: one declaration is the answer's type, the check of a request and the OpenAPI schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from remediator.audit import AuditRecord
from remediator.clock import Duration, format_duration, format_instant
from remediator.facts import GuardState
from remediator.incident import Incident
from remediator.redact import redact
from remediator.rule import Mode, Rule
from remediator.run import Found, Kind, Run, State
from remediator.store import Approval, EffectRow, Pause, Tally

Text = Annotated[str, Field(max_length=2000)]
Scope = Annotated[str, Field(pattern=r"^(global|(rule|target):[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$")]
GuardScope = Annotated[
    str, Field(pattern=r"^(|global|(rule|target):[A-Za-z0-9][A-Za-z0-9_.-]{0,127}|incident:[0-9a-f]{1,128})$")
]
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Request(BaseModel):
    """The body of a request: exactly these keys, exactly these types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Vote(Request):
    """An answer to a question: may exactly these changes be made?"""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="The digest that was shown with the changes.")
    comment: Text = Field(default="", description="Why; kept in the audit.")


class Cancel(Request):
    """A wish to cancel a run that has not begun to act, or to close one that waits for a person."""

    comment: Text = Field(default="", description="Why; kept in the audit.")
    found: Annotated[Found, Field(strict=False)] | None = Field(
        default=None,
        description="What became of the effect of a run that needs_human, which then ends so; needs a comment.",
    )


class Retry(Request):
    """A wish to have a run tried once more."""

    reason: Text = Field(min_length=1, description="Why; kept in the audit.")


class PauseRequest(Request):
    """A pause: nothing in its scope acts after it is committed."""

    reason: Text = Field(min_length=1, description="Why; shown to everybody and kept in the audit.")
    for_: Duration | None = Field(default=None, alias="for", description="How long, like 2h; until resumed if absent.")


class ScopedPause(PauseRequest):
    """A pause of everything, of a rule or of a target."""

    scope: Scope = Field(default="global", description="global, rule:NAME or target:NAME.")


class ResumeRequest(Request):
    """The end of a pause."""

    reason: Text = Field(default="", description="Why; kept in the audit.")


class ScopedResume(ResumeRequest):
    """The end of a pause of everything, of a rule or of a target."""

    scope: Scope = Field(default="global", description="global, rule:NAME or target:NAME.")


class GuardRelease(Request):
    """A person's word that what a guard holds is to go on."""

    scope: GuardScope = Field(default="", description="global, rule:NAME or target:NAME; all that is open if absent.")
    reason: Text = Field(min_length=1, description="Why; kept in the audit.")


class AcceptLoss(Request):
    """A person's word that the store is to be taken as it is, although history is missing."""

    reason: Text = Field(min_length=1, description="Why, such as the backup that was put back; kept in the audit.")


class Trusted(TypedDict):
    """The checkpoint from which the audit is trusted again."""

    records: int
    head: str
    at: str


class IncidentView(TypedDict):
    """One life of one problem."""

    id: str
    key: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: Instant
    ends_at: Instant | None
    seen_at: Instant
    alerts: list[dict[str, Any]]


class IncidentBrief(TypedDict):
    """The problem a run is about."""

    id: str
    labels: Mapping[str, str]
    starts_at: Instant
    ends_at: Instant | None


class EffectView(TypedDict):
    """One licence to act and what came of it."""

    id: str
    attempt: int
    effect: str
    state: str
    subject: str
    outcome: Mapping[str, Any]
    licensed_at: Instant
    finished_at: Instant | None


class StepView(TypedDict):
    """One action on one target, as far as it has come."""

    id: str
    kind: Literal["remedy", "finally", "undo", "back", "call"]
    """What it is for: to help, to put in order in any case, to undo another step, to put a temporary change back, or
    to call people."""
    action: str
    target: str
    remedy: str | None
    """The name of its remedy."""
    undoes: str | None
    """The id of the step that it undoes."""
    revert: str | None
    """The id of the temporary change that it made."""
    state: str
    parameters: Mapping[str, Any] | None
    change: Mapping[str, Any] | None
    outcome: Mapping[str, Any] | None
    effects: list[EffectView]


class RemedyView(TypedDict):
    """One remedy of several, as far as its turn has come."""

    name: str
    state: Literal[
        "waiting", "skipped", "trying", "helped", "ineffective", "unknown", "failed", "denied", "observed", "cancelled",
        "expired", "needs_human",
    ]  # fmt: skip
    reason: str
    message: str
    since: Instant | None
    until: Instant | None


class ApprovalView(TypedDict):
    """The question that was put to people."""

    id: str
    state: str
    digest: str
    changes: Sequence[Mapping[str, Any]]
    needed: int
    barred: list[str]
    """Whose yes does not count: four eyes."""
    votes: Sequence[Mapping[str, Any]]
    requested_at: Instant
    expires_at: Instant


class RunBrief(TypedDict):
    """A run as lists show it."""

    id: str
    kind: Literal["remedy", "revert", "escalation"]
    """What it is for: to carry out a rule, to put a temporary change back, or to call people."""
    about: str
    """What it follows from, where it carries out no rule: the id of a run first."""
    rule: str
    rule_digest: str
    state: Literal[
        "queued", "held", "running", "verifying", "succeeded", "failed", "denied", "observed", "cancelled", "expired",
        "needs_human",
    ]  # fmt: skip
    reason: str
    message: str
    mode: str
    incident: IncidentBrief
    targets: list[str]
    steps: list[StepView]
    created_at: Instant
    updated_at: Instant
    due_at: Instant
    wake_at: Instant | None


class RunView(RunBrief):
    """A run with everything that led to where it is."""

    before: list[Mapping[str, Any]]
    """How it ended each time before a person had it tried again: `state`, `reason`, `message`, `at`."""
    remedies: list[RemedyView]
    """What was tried, in order; empty where the rule is one remedy without a name."""
    evidence: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]
    verify: Mapping[str, Any] | None
    approval: ApprovalView | None


class PauseView(TypedDict):
    """A pause in force."""

    scope: str
    reason: str
    actor: str
    since: Instant
    until: Instant | None


class GuardStateView(TypedDict):
    """What a guard holds until it is over or released: an open breaker, a storm that is on."""

    guard: str
    scope: str
    since: Instant
    until: Instant | None
    why: str


class GuardStateList(TypedDict):
    """What guards hold now."""

    items: list[GuardStateView]
    next: str | None


class RuleBrief(TypedDict):
    """A rule in force as lists show it; ``effective_mode`` is its mode under the service's highest one."""

    name: str
    description: str
    owner: str
    service: str
    runbook_url: str
    mode: str
    effective_mode: str
    alerts: list[str]
    targets: list[str]
    digest: str
    file: str
    paused: PauseView | None


class TallyView(TypedDict):
    """What became of the newest runs of a rule (5,000 at most), one for each problem that it answered."""

    matched: int
    would_have_acted: int
    """Observed only."""
    self_resolved: int
    """Of those: problems that went away without this rule."""
    self_resolved_after: str | None
    """Median of how long those problems lasted, such as 12m."""
    verified_fixed: int
    """It acted, and the problem was seen to be gone."""
    verified_fixed_after: str | None
    """Median of how long those problems lasted, until that was seen."""
    done: int
    """It acted, and nobody asked whether that helped."""
    nothing_to_do: int
    ineffective: int
    """It acted, and the problem was still there."""
    failed: int
    denied: int
    expired: int
    cancelled: int
    needs_human: int
    live: int
    since: Instant | None


class RuleView(RuleBrief):
    """A rule in force as it was written, and what became of its runs."""

    rule: Mapping[str, Any]
    tally: TallyView


class RecordView(TypedDict):
    """A record of the audit chain; ``detail`` is what the digest covers beside the other fields."""

    sequence: int
    at: Instant
    event: str
    actor: str
    run_id: str
    rule: str
    detail: Mapping[str, Any]
    previous: str
    digest: str


class Verified(TypedDict):
    """Whether the chain is whole; ``at`` is the first record that is not, or 0."""

    ok: bool
    records: int
    head: str
    at: int
    message: str
    removed: int
    """How many of the oldest records retention has taken."""


class RunList(TypedDict):
    """Runs, newest first."""

    items: list[RunBrief]
    next: str | None


class RuleList(TypedDict):
    """Rules by name."""

    items: list[RuleBrief]
    next: str | None


class IncidentList(TypedDict):
    """Incidents, newest first."""

    items: list[IncidentView]
    next: str | None


class RecordList(TypedDict):
    """Audit records, newest first unless asked for otherwise."""

    items: list[RecordView]
    next: str | None


class PauseList(TypedDict):
    """Pauses in force; ``paused`` says whether everything is."""

    paused: bool
    items: list[PauseView]
    next: str | None


class Accepted(TypedDict):
    """A delivery that is committed: how many alerts, and the runs it opened."""

    accepted: int
    runs: list[str]


class Problem(TypedDict, total=False):
    """RFC 9457 problem details; ``type`` ends in a stable word."""

    type: str
    title: str
    status: int
    detail: str


def instant(at: float | None) -> str | None:
    """RFC 3339, or None."""
    return None if at is None else format_instant(at)


def show_brief(run: Run, incident: Incident | None, effects: Sequence[EffectRow] = ()) -> RunBrief:
    """``run`` as lists show it. Values that hold secrets by their shape are masked."""
    steps = run.progress.get("steps", ())
    shown: RunBrief = {
        "id": run.id,
        "kind": run.kind.value,
        "about": run.about,
        "rule": run.rule,
        "rule_digest": run.rule_digest,
        "state": run.state.value,
        "reason": run.reason,
        "message": run.message,
        "mode": run.mode,
        "incident": {
            "id": run.incident_id,
            "labels": redact(dict(incident.common_labels)) if incident else {},
            "starts_at": format_instant(incident.opened_at if incident else run.due_at),
            "ends_at": instant(incident.ended_at) if incident else None,
        },
        "targets": list(run.targets),
        "steps": [_step(run, number, [e for e in effects if e.step == number]) for number in range(len(steps))],
        "created_at": format_instant(run.created_at),
        "updated_at": format_instant(run.updated_at),
        "due_at": format_instant(run.due_at),
        "wake_at": format_instant(run.wake_at) if run.state is State.HELD else None,
    }
    return shown


def show_run(run: Run, incident: Incident, effects: Sequence[EffectRow], approval: Approval | None) -> RunView:
    """``run`` with its evidence, verdicts, licences and question."""
    progress = run.progress
    return {
        **show_brief(run, incident, effects),
        "before": [
            {**how, "message": redact(how["message"]), "at": format_instant(how["at"])}
            for how in progress.get("before", ())
        ],
        "remedies": [
            {
                "name": remedy["name"],
                "state": remedy["state"],
                "reason": remedy.get("reason", ""),
                "message": redact(remedy.get("message", "")),
                "since": instant(remedy.get("since")),
                "until": instant(remedy.get("until")),
            }
            for remedy in progress.get("remedies", ())
        ],
        "evidence": redact(progress.get("evidence", {})),
        "verdicts": redact(progress.get("verdicts", [])),
        "verify": progress.get("verify"),
        "approval": show_approval(approval) if approval is not None else None,
    }


def _step(run: Run, number: int, effects: Sequence[EffectRow]) -> StepView:
    steps, remedies = run.progress["steps"], run.progress.get("remedies", ())
    step, undoes = steps[number], steps[number].get("undoes")
    kind = "undo" if undoes is not None else "finally" if step.get("final") else _STEPS[run.kind]
    remedy = step.get("remedy", -1)
    return {
        "id": step["id"],
        "kind": kind,
        "remedy": remedies[remedy]["name"] or None if 0 <= remedy < len(remedies) else None,
        "undoes": None if undoes is None else steps[undoes]["id"],
        "revert": step.get("revert"),
        "action": step["uses"],
        "target": step["target"],
        "state": step["state"],
        "parameters": redact(step.get("parameters")),
        "change": redact(step.get("change")),
        "outcome": redact(step.get("outcome")),
        "effects": [
            {
                "id": effect.id,
                "attempt": effect.attempt,
                "effect": effect.effect,
                "state": effect.state,
                "subject": effect.subject,
                "outcome": redact(effect.outcome),
                "licensed_at": format_instant(effect.licensed_at),
                "finished_at": instant(effect.finished_at),
            }
            for effect in effects
        ],
    }


_STEPS: Mapping[Kind, Literal["remedy", "back", "call"]] = {
    Kind.REMEDY: "remedy",
    Kind.REVERT: "back",
    Kind.ESCALATION: "call",
}


def show_approval(approval: Approval) -> ApprovalView:
    """The question as the approver must see it: never masked, for the digest is bound to exactly this."""
    return {
        "id": approval.id,
        "state": approval.state,
        "digest": approval.digest,
        "changes": list(approval.changes),
        "needed": approval.needed,
        "barred": list(approval.barred),
        "votes": [{**vote, "at": format_instant(vote["at"])} for vote in approval.votes],
        "requested_at": format_instant(approval.requested_at),
        "expires_at": format_instant(approval.expires_at),
    }


def show_incident(incident: Incident) -> IncidentView:
    """``incident`` with its alerts."""
    return {
        "id": incident.id,
        "key": incident.key,
        "labels": redact(dict(incident.common_labels)),
        "annotations": redact(dict(incident.annotations)),
        "starts_at": format_instant(incident.opened_at),
        "ends_at": instant(incident.ended_at),
        "seen_at": format_instant(incident.seen_at),
        "alerts": [
            {
                "status": "firing" if member.ended_at is None else "resolved",
                "labels": redact(dict(member.labels)),
                "annotations": redact(dict(member.annotations)),
                "starts_at": format_instant(member.min_start),
                "ends_at": instant(member.ended_at),
            }
            for member in incident.members.values()
        ],
    }


def show_guard_state(state: GuardState) -> GuardStateView:
    """What a guard holds, for the API."""
    return {
        "guard": state.guard,
        "scope": state.scope,
        "since": format_instant(state.since),
        "until": instant(state.until),
        "why": state.why,
    }


def show_rule(rule: Rule, file: str, mode_max: Mode, pause: Pause | None) -> RuleBrief:
    """``rule`` as lists show it."""
    return {
        "name": rule.name,
        "description": rule.description,
        "owner": rule.owner,
        "service": rule.service,
        "runbook_url": rule.runbook_url,
        "mode": rule.mode.value,
        "effective_mode": rule.mode.at_most(mode_max).value,
        "alerts": list(rule.when.alert),
        "targets": list(rule.targets),
        "digest": rule.digest,
        "file": file,
        "paused": show_pause(pause) if pause is not None else None,
    }


def show_tally(tally: Tally) -> TallyView:
    """What became of the runs of a rule."""
    return {
        "matched": tally.matched,
        "would_have_acted": tally.observed,
        "self_resolved": tally.self_resolved,
        "self_resolved_after": _length(tally.self_resolved_after),
        "verified_fixed": tally.fixed,
        "verified_fixed_after": _length(tally.fixed_after),
        "done": tally.done,
        "nothing_to_do": tally.nothing_to_do,
        "ineffective": tally.ineffective,
        "failed": tally.failed,
        "denied": tally.denied,
        "expired": tally.expired,
        "cancelled": tally.cancelled,
        "needs_human": tally.needs_human,
        "live": tally.live,
        "since": instant(tally.since),
    }


def _length(seconds: float | None) -> str | None:
    return None if seconds is None else format_duration(max(0.0, float(round(seconds))))


def show_pause(pause: Pause) -> PauseView:
    """A pause in force."""
    return {
        "scope": pause.scope,
        "reason": pause.reason,
        "actor": pause.actor,
        "since": format_instant(pause.since),
        "until": instant(pause.until),
    }


def show_record(record: AuditRecord, detail: Mapping[str, Any]) -> RecordView:
    """A record with its parsed detail; never masked here, for what is in the chain was masked before it went in."""
    return {
        "sequence": record.sequence,
        "at": format_instant(record.at),
        "event": record.event,
        "actor": record.actor,
        "run_id": record.run_id,
        "rule": record.rule,
        "detail": detail,
        "previous": record.previous,
        "digest": record.digest,
    }
