"""A bench for stores: a clock that stands still, ids that count, and short words for what a test must first do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from remediator.action import Change
from remediator.alert import Bounds, read_delivery
from remediator.arrival import Arrival, Receipt, RuleRef, Sighting
from remediator.audit import AuditRecord, Entry, Verification, verify
from remediator.clock import format_instant
from remediator.guard import Limit
from remediator.incident import identity
from remediator.ledger import Transfer
from remediator.run import Lock, Run, State
from remediator.store import Approval, Claim, EffectRow, Licence, LicenceRequest, Refusal, Store

T = TypeVar("T")
T0 = 1_700_000_000.0
"""When every test begins; whole seconds, so that sums of seconds are exact."""


class StoreClock:
    """The store's clock, which goes only when a test lets it."""

    def __init__(self) -> None:
        self.at = T0

    def now(self) -> float:
        """Unix seconds as the test has set them."""
        return self.at

    def monotonic(self) -> float:
        """The same; nothing here measures with it."""
        return self.at

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.at += seconds


class CountingIds:
    """Identifiers that rise and can be read."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> str:
        """The next identifier."""
        self.made += 1
        return f"{self.made:026}"


def ref(rule: str = "rule-a", *locks: Lock, wait: float = 0.0, mode: str = "auto") -> RuleRef:
    """A rule as intake knows it; without ``locks`` each rule has a target of its own."""
    return RuleRef(rule, f"digest of {rule}", mode, locks or (Lock(f"target of {rule}", "", 1),), wait)


def sighting(
    name: str = "a", *, firing: bool = True, start: float = T0, end: float | None = None, key: str = "",
    rules: Sequence[RuleRef] = (), annotations: Mapping[str, str] | None = None,
) -> Sighting:  # fmt: skip
    """One alert, read from JSON as Alertmanager writes it. ``key`` puts several alerts into one incident."""
    labels = {"alertname": "QueueHigh", "queue": name}
    body = {
        "version": "4",
        "alerts": [
            {
                "status": "firing" if firing else "resolved",
                "labels": labels,
                "annotations": dict(annotations or {"summary": f"queue {name} is long"}),
                "startsAt": format_instant(start),
                "endsAt": "0001-01-01T00:00:00Z" if end is None else format_instant(end),
            }
        ],
    }
    (alert,) = read_delivery(json.dumps(body).encode(), Bounds()).alerts
    member, kept = identity(labels, ())
    return Sighting(alert, member, key or member, {"alertname": "QueueHigh"} if key else kept, tuple(rules))


def arrival(*sightings: Sighting, at: float = T0, source: str = "am-1") -> Arrival:
    """A delivery of these alerts."""
    body = json.dumps({"version": "4", "receiver": "remediator", "groupKey": "{}", "alerts": []}).encode()
    delivery = read_delivery(body, Bounds())._replace(alerts=tuple(s.alert for s in sightings))
    return Arrival(delivery, source, at, tuple(sorted(sightings, key=lambda s: s.key)), 0)


def entry(run: Run, event: str = "run.moved", **detail: Any) -> Entry:
    """An audit entry about a run."""
    return Entry(
        event=event, actor="remediator", run_id=run.id, rule=run.rule, rule_digest=run.rule_digest, detail=detail
    )


CHANGE = Change(summary="3 → 5 replicas", before={"replicas": 3}, after={"replicas": 5})


def transfer() -> Transfer:
    """A transfer that no store has."""
    return Transfer(
        id="t", key="k", run_id="r", effect_id="e", account="treasury", source="S", payee="minting", destination="D",
        amount=1, fee=0, change={}, reserved_at=T0,
    )  # fmt: skip


@dataclass
class Bench:
    """A store under test and what its tests need of it."""

    store: Store
    clock: StoreClock
    ids: CountingIds
    started: dict[str, float] = field(default_factory=dict)

    async def fires(self, name: str = "a", *rules: RuleRef, start: float | None = None, key: str = "") -> Receipt:
        """Deliver that an alert fires, since now unless ``start`` says otherwise."""
        self.started[name] = start = self.clock.at if start is None else start
        one = sighting(name, start=start, rules=rules or (ref(),), key=key)
        return await self.store.intake(arrival(one, at=self.clock.at))

    async def ends(self, name: str = "a", *rules: RuleRef, key: str = "") -> Receipt:
        """Deliver that an alert which fired has ended, now."""
        start = self.started[name]
        one = sighting(name, firing=False, start=start, end=self.clock.at, rules=rules or (ref(),), key=key)
        return await self.store.intake(arrival(one, at=self.clock.at))

    async def claim(self, owner: str = "w1", lease: float = 30.0, most: int = 100) -> list[Claim]:
        """Claim what is due."""
        return list(await self.store.claim(owner, lease, most))

    async def claim_one(self, owner: str = "w1", lease: float = 30.0) -> Claim:
        """Claim the one run that is due."""
        (claim,) = await self.claim(owner, lease)
        return claim

    async def running(self, name: str = "a", rule: RuleRef | None = None, lease: float = 30.0) -> Claim:
        """A new alert and its run, claimed."""
        receipt = await self.fires(name, rule or ref(f"rule-{name}"))
        (claim,) = [claim for claim in await self.claim(lease=lease) if claim.run.id in receipt.runs]
        return claim

    def request(
        self, claim: Claim, *, step: int = 0, attempt: int = 1, limits: Sequence[Limit] = (), approval: str = "",
        target: str = "", subject: str = "", run: Run | None = None, announces: Sequence[str] = (),
        lasts: float = 0.0, answers: str = "",
    ) -> LicenceRequest:  # fmt: skip
        """A request to act, as the engine makes it."""
        run = run or claim.run
        moved = run.move(
            State.RUNNING,
            "acting",
            "does it",
            now=self.clock.at,
            progress={"steps": [{"state": "acting", "attempt": attempt}]},
        )
        return LicenceRequest(
            run=moved,
            step=step,
            attempt=attempt,
            action="kubernetes.scale",
            target=target or run.locks[0].target,
            subject=subject,
            effect="idempotent",
            change=CHANGE.as_json(),
            incident_key=claim.incident.key,
            limits=limits,
            approval=approval,
            entry=entry(run, "effect.intent", step=step, attempt=attempt),
            announces=announces,
            announces_for=lasts,
            answers=answers,
        )

    async def licensed(self, claim: Claim, **asked: Any) -> Licence:
        """Ask and get the licence."""
        answer = await self.store.licence(self.request(claim, **asked))
        assert isinstance(answer, Licence), answer
        return answer

    async def refused(self, claim: Claim, **asked: Any) -> Refusal:
        """Ask and be refused."""
        answer = await self.store.licence(self.request(claim, **asked))
        assert isinstance(answer, Refusal), answer
        return answer

    async def concluded(
        self, licence: Licence, to: State = State.SUCCEEDED, state: str = "done", wake_at: float | None = None
    ) -> Run:
        """Conclude a licence and move its run."""
        moved = licence.run.move(to, "done", "done", now=self.clock.at, wake_at=wake_at)
        told = {"summary": "5 replicas"}
        return await self.store.conclude(moved, licence.effect_id, state, told, entry(moved, f"run.{to.value}"))

    async def acted(self, name: str, rule: RuleRef, *, to: State = State.SUCCEEDED) -> Run:
        """A whole run: alert, claim, licence, outcome."""
        return await self.concluded(await self.licensed(await self.running(name, rule)), to)

    async def moved(self, run: Run, to: State, *, wake_at: float | None = None, reason: str = "moved") -> Run:
        """Save a run in another state."""
        after = run.move(to, reason, "moved by the test", now=self.clock.at, wake_at=wake_at)
        return await self.store.save(after, entry(after, f"run.{to.value}"))

    async def asked(
        self, claim: Claim, *, digest: str = "what was shown", needed: int = 1, expires_in: float = 900.0
    ) -> Run:
        """Hold a run and ask people about CHANGE as its step 0."""
        approval = Approval(
            id=self.ids(),
            run_id=claim.run.id,
            digest=digest,
            changes=[{"step": 0, "digest": CHANGE.digest, "change": CHANGE.as_json()}],
            state="pending",
            needed=needed,
            requested_at=self.clock.at,
            expires_at=self.clock.at + expires_in,
        )
        held = claim.run.move(State.HELD, "approval", "waits", now=self.clock.at, wake_at=approval.expires_at)
        return await self.store.ask(held, approval, entry(held, "approval.requested"))

    async def records(self) -> list[AuditRecord]:
        """The whole audit."""
        return [record async for record in self.store.audit_stream()]

    async def events(self, run_id: str = "") -> list[str]:
        """The events of the audit, of one run if named, in order."""
        return [record.event for record in await self.records() if not run_id or record.run_id == run_id]

    async def verified(self) -> Verification:
        """The chain recomputed over everything."""
        return verify(await self.records())

    async def look(self, *runs: str) -> Look:
        """Everything a refused or lost write must leave as it is."""
        return Look(
            runs=tuple([await self.store.run(run_id) for run_id in runs]),
            effects=tuple([effect for run_id in runs for effect in await self.store.effects(run_id)]),
            approvals=tuple([await self.store.approval(run_id) for run_id in runs]),
            audit=tuple(await self.records()),
        )


@dataclass(frozen=True)
class Look:
    """What a store shows of some runs at one moment."""

    runs: tuple[Run, ...]
    effects: tuple[EffectRow, ...]
    approvals: tuple[Approval | None, ...]
    audit: tuple[AuditRecord, ...]


async def outcome(call: Awaitable[T]) -> T | Exception:
    """The result of a call or what it raised, for calls that race."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error
