"""Rows of the schema as our types, and back: the columns and texts are the same in every dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from remediator.action import canonical_json
from remediator.audit import AuditRecord
from remediator.facts import GuardState
from remediator.incident import Incident
from remediator.run import Kind, Lock, Run, State
from remediator.store import Approval, EffectRow

RUN = (
    "id,rule,rule_digest,incident_id,state,reason,message,mode,epoch,version,owner,lease_until,wake_at,created_at,"
    "updated_at,due_at,locks,tries,progress,kind,about"
)
INCIDENT = "id,key,labels,members,opened_at,seen_at,ended_at"
EFFECT = (
    "id,run_id,step,attempt,epoch,action,target,subject,effect,state,change,outcome,licensed_at,finished_at"
)
APPROVAL = "id,run_id,digest,changes,state,needed,requested_at,expires_at,barred"
GUARD_STATE = "guard,scope,open,since,until,why,actor"
AUDIT = "sequence,at,event,actor,run_id,rule,body,previous,digest"


def run_row(run: Run) -> tuple[Any, ...]:
    """The values of RUN's columns."""
    return (
        run.id, run.rule, run.rule_digest, run.incident_id, run.state.value, run.reason, run.message, run.mode,
        run.epoch, run.version, run.owner, run.lease_until, run.wake_at, run.created_at, run.updated_at, run.due_at,
        locks_text(run.locks), run.tries, canonical_json(run.progress) if run.progress else "{}",
        run.kind.value, run.about,
    )  # fmt: skip


def read_run(row: Sequence[Any]) -> Run:
    """The run in a row of RUN's columns."""
    return Run(
        id=row[0],
        rule=row[1],
        rule_digest=row[2],
        incident_id=row[3],
        state=State(row[4]),
        reason=row[5],
        message=row[6],
        mode=row[7],
        epoch=row[8],
        version=row[9],
        owner=row[10],
        lease_until=row[11],
        wake_at=row[12],
        created_at=row[13],
        updated_at=row[14],
        due_at=row[15],
        locks=read_locks(row[16]),
        tries=row[17],
        progress=json.loads(row[18]),
        kind=Kind(row[19]),
        about=row[20],
    )


@lru_cache(maxsize=4096)
def locks_text(locks: tuple[Lock, ...]) -> str:
    """Locks as JSON: those of a rule are the same for all its runs."""
    return canonical_json(locks)


@lru_cache(maxsize=4096)
def read_locks(text: str) -> tuple[Lock, ...]:
    """Locks from their JSON."""
    return tuple([Lock(*lock) for lock in json.loads(text)])


def incident_row(incident: Incident) -> tuple[Any, ...]:
    """The values of INCIDENT's columns."""
    return (
        incident.id,
        incident.key,
        canonical_json(incident.labels),
        incident.members_json(),
        incident.opened_at,
        incident.seen_at,
        incident.ended_at,
    )


def read_incident(row: Sequence[Any]) -> Incident:
    """The incident in a row of INCIDENT's columns."""
    members = Incident.read_members(json.loads(row[3]))
    return Incident(row[0], row[1], json.loads(row[2]), members, row[4], row[5], row[6])


def read_effect(row: Sequence[Any]) -> EffectRow:
    """The licence in a row of EFFECT's columns."""
    return EffectRow(
        id=row[0],
        run_id=row[1],
        step=row[2],
        attempt=row[3],
        epoch=row[4],
        action=row[5],
        target=row[6],
        subject=row[7],
        effect=row[8],
        state=row[9],
        change=json.loads(row[10]),
        outcome=json.loads(row[11]),
        licensed_at=row[12],
        finished_at=row[13],
    )


def read_approval(row: Sequence[Any], votes: Sequence[Sequence[Any]]) -> Approval:
    """The approval in a row, with the rows of its votes."""
    return Approval(
        id=row[0],
        run_id=row[1],
        digest=row[2],
        changes=json.loads(row[3]),
        state=row[4],
        needed=row[5],
        requested_at=row[6],
        expires_at=row[7],
        barred=tuple(json.loads(row[8])),
        votes=tuple({"actor": v[0], "yes": bool(v[1]), "comment": v[2], "at": v[3]} for v in votes),
    )


def read_guard_state(row: Sequence[Any]) -> GuardState:
    """What a guard keeps, in a row of GUARD_STATE's columns."""
    return GuardState(row[0], row[1], bool(row[2]), *row[3:])


def read_audit(row: Sequence[Any]) -> AuditRecord:
    """The record in a row of AUDIT's columns."""
    return AuditRecord(*row)
