"""A whole engine under virtual time: real intake, rulebook, store, worker; and an outside world that counts effects.

The outside is a ``Place``: a target whose things have values. Its actions follow the contract of action.py to the
letter, one for each effect class, and write every effect that truly took place into ``Place.effects``. What goes wrong
is said beforehand with ``Place.faults``, in the words of networks: refused, lost request, lost reply, no answer.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.alert import Bounds
from remediator.arrival import Receipt, RuleRef
from remediator.catalogue import Catalogue
from remediator.clock import format_instant
from remediator.composite import Composite
from remediator.engine import Engine
from remediator.errors import PermanentError, TemporaryError
from remediator.guard import Guard, GuardContext, Verdict
from remediator.ids import SystemIds
from remediator.intake import Intake, intake_rules
from remediator.metrics import Metrics
from remediator.planning import Plans, effective_mode, locks, watched
from remediator.probe import Probe, ProbeContext
from remediator.rule import Mode, Registry
from remediator.rulebook import rulebook_from_texts
from remediator.run import Run, State
from remediator.stores.sqlite import SqliteStore
from remediator.target import Target
from remediator.worker import Worker
from remediator.world import World
from tests import invariants
from tests.closed_loop import Write

EPOCH = 1_800_000_000.0


class LoopClock:
    """Time as the event loop has it; ``skip`` is what passes while the whole process stands still."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def now(self) -> float:
        return EPOCH + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.skipped

    def skip(self, seconds: float) -> None:
        """The process was stopped for so long (SIGSTOP, a paused machine) and goes on now."""
        self.skipped += seconds


@dataclass
class Outside:
    """What is behind a target: the values of its things, and everything that was truly done to them."""

    values: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    effects: list[invariants.Effect] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    """Every value that was written, ours and other people's, in order."""
    keys: dict[str, int] = field(default_factory=dict)
    """Idempotency keys that were seen, and how many requests carried each."""
    faults: deque[str] = field(default_factory=deque)
    """What becomes of the next requests.

    ``refused``, ``denied``, ``lost request``, ``lost reply`` (``and gone``: nobody can be asked afterwards),
    ``no answer``, ``slow N``, ``bug``, ``stopped N`` (our process stands still right before it sends), or ``fine``.
    """
    then: Callable[[], None] = lambda: None
    """Called whenever something took place."""
    away: bool = False
    """Nothing can be read."""
    requests: int = 0
    name: str = ""
    """The target's name, for the record of effects."""
    settled_after: float = 0.0
    """How long after an effect the action's own post-condition begins to hold."""

    async def carry_out(self, context: ActionContext, action: Action[Any], thing: str, do: Callable[[], None]) -> None:
        """One request on its way out and back."""
        fault = self.faults.popleft() if self.faults else "fine"
        if fault.startswith("stopped ") and isinstance(context.clock, LoopClock):
            context.clock.skip(float(fault.removeprefix("stopped ")))
        context.check_deadline()
        self.requests += 1
        if fault == "refused":
            raise TemporaryError("connection refused", reason="refused")
        if fault == "denied":
            raise PermanentError("403: forbidden", reason="status_403")
        if fault == "lost request":
            raise ConnectionResetError("connection reset before the request arrived")
        if fault == "bug":
            raise KeyError("a mistake of the action's author")
        begun = context.clock.now()
        if fault.startswith("slow "):
            await asyncio.sleep(float(fault.removeprefix("slow ")))
        was = self.values.get(thing, 0)
        do()
        by = (context.run_id, context.step, context.attempt)
        self.writes.append(Write(self.name, thing, context.clock.now(), was, self.values.get(thing, 0), by))
        done = invariants.Effect(
            run=context.run_id, step=context.step, attempt=context.attempt, target=self.name,
            subject=thing, kind=action.effect, begun=begun, ended=context.clock.now(),
        )  # fmt: skip
        self.effects.append(done)
        self.then()
        if fault == "lost reply and gone":
            self.away = True
        if fault.startswith("lost reply"):
            raise ConnectionResetError("connection reset before the reply arrived")
        if fault == "no answer":
            await asyncio.sleep(1e9)

    def meddle(self, thing: str, value: int, now: float) -> None:
        """Somebody else sets a thing."""
        self.writes.append(Write(self.name, thing, now, self.values.get(thing, 0), value))
        self.values[thing] = value

    def read(self, thing: str) -> int:
        """The value of a thing. Raises TemporaryError while the outside is away."""
        if self.away:
            raise TemporaryError("connection refused", reason="refused")
        return self.values.get(thing, 0)


class Place(Target):
    """A target in memory."""

    lists: ClassVar[tuple[str, ...]] = ("things",)
    _outside: Outside = PrivateAttr(default_factory=Outside)

    @property
    def outside(self) -> Outside:
        return self._outside


class _Lever(Action[Place]):
    thing: str = Field(description="What is acted on.", max_length=20, pattern="^[a-z0-9-]+$")

    def needs(self) -> Mapping[str, str]:
        return {"things": self.thing}

    def subject(self) -> str:
        return self.thing

    async def _carry_out(self, target: Place, context: ActionContext, do: Callable[[], None]) -> None:
        await target.outside.carry_out(context, self, self.thing, do)


class Put(_Lever):
    """Sets a thing to a number: idempotent."""

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    to: int = Field(description="The number.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        before = target.outside.read(self.thing)
        return Change(summary=f"{self.thing} {before} → {self.to}", before={"n": before}, after={"n": self.to})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        await self._carry_out(target, context, lambda: target.outside.values.update({self.thing: self.to}))
        return Outcome(summary=f"{self.thing} is {self.to}", data={"n": self.to})


class Swap(Put):
    """Sets a thing to a number if its version is still the one that was read: conditional."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    async def diff(self, target: Place, context: ActionContext) -> Change:
        change = await super().diff(target, context)
        version = target.outside.versions.get(self.thing, 0)
        return Change(
            summary=change.summary, before=change.before, after=change.after, volatile={"version": version}
        )

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        outside = target.outside

        def swap() -> None:
            if outside.versions.get(self.thing, 0) != change.volatile["version"]:
                raise TemporaryError("409: somebody else changed it", reason="conflict")
            outside.values[self.thing] = self.to
            outside.versions[self.thing] = outside.versions.get(self.thing, 0) + 1

        await self._carry_out(target, context, swap)
        return Outcome(summary=f"{self.thing} is {self.to}")

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        return Happened.YES if target.outside.read(self.thing) == self.to else Happened.NO


class Turn(Put):
    """Sets a thing to a number, and can be taken back while the number is still that one."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    only_from: int | None = Field(default=None, description="Act only if this is the number now.")
    jammed: bool = Field(default=False, description="Once turned it cannot be turned back.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        before = target.outside.read(self.thing)
        if self.only_from is not None and before not in (self.to, self.only_from):
            raise PermanentError(f"{self.thing} is {before} and not {self.only_from}", reason="changed")
        return await super().diff(target, context)

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        values = target.outside.values

        def turn() -> None:
            if values.get(self.thing, 0) != change.before["n"]:
                raise TemporaryError("409: somebody else changed it", reason="conflict")
            values[self.thing] = self.to

        await self._carry_out(target, context, turn)
        return Outcome(summary=f"{self.thing} is {self.to}", data={"n": self.to})

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        target.outside.read(self.thing)
        found = any(e.run == context.run_id and e.step == context.step for e in target.outside.effects)
        return Happened.YES if found else Happened.NO

    def inverse(self, change: Change) -> Turn | None:
        return None if self.jammed else Turn(thing=self.thing, to=change.before["n"], only_from=change.after["n"])


class Settle(Put):
    """Sets a thing and waits until it works."""

    async def verify(self, target: Place, change: Change, context: ActionContext) -> None:
        outside = target.outside
        if outside.settled_after < 0:
            raise PermanentError("it crashes when it starts", reason="crash_loop")
        last = outside.effects[-1].ended
        if context.clock.now() < last + outside.settled_after:
            raise TemporaryError("not ready yet", reason="not_ready")


class Pay(_Lever):
    """Pays once for a key, however often it is asked: keyed."""

    effect: ClassVar[Effect] = Effect.KEYED
    amount: int = Field(description="How much.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        return Change(summary=f"pay {self.amount} to {self.thing}", before={}, after={"pay": self.amount})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        outside = target.outside
        if context.key in outside.keys:
            context.check_deadline()
            outside.keys[context.key] += 1
            return Outcome(summary="was paid before")

        def pay() -> None:
            outside.keys[context.key] = 1
            outside.values[self.thing] = outside.values.get(self.thing, 0) + self.amount

        await self._carry_out(target, context, pay)
        return Outcome(summary=f"paid {self.amount}")


class Add(_Lever):
    """Adds to a thing; the outside keeps a list of who added, which can be read: probe."""

    effect: ClassVar[Effect] = Effect.PROBE
    by: int = Field(description="How much.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        before = target.outside.read(self.thing)
        return Change(summary=f"add {self.by}", before={"n": before}, after={"n": before + self.by})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        outside = target.outside
        await self._carry_out(
            target, context, lambda: outside.values.update({self.thing: outside.values.get(self.thing, 0) + self.by})
        )
        return Outcome(summary=f"added {self.by}")

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        outside = target.outside
        outside.read(self.thing)
        found = any(effect.run == context.run_id and effect.step == context.step for effect in outside.effects)
        return Happened.YES if found else Happened.NO


class Kick(_Lever):
    """Kicks a thing; nobody can see afterwards whether it was kicked: once."""

    effect: ClassVar[Effect] = Effect.ONCE
    note: str = Field(default="", description="Free text.", max_length=40)

    def needs_approval(self, target: Place) -> bool:
        return self.thing == "everything"

    async def diff(self, target: Place, context: ActionContext) -> Change:
        return Change(summary=f"kick {self.thing}", before={}, after={"kick": self.thing, "note": self.note})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        await self._carry_out(target, context, lambda: None)
        return Outcome(summary=f"kicked {self.thing}", data={"kicked": self.thing})


class Look(Probe[Place]):
    """Reads a thing."""

    thing: str = Field(description="What is looked at.")
    wait: float = Field(default=0.0, description="How long the answer takes.")
    shape: Literal["number", "bug", "nan"] = Field(default="number", description="What the answer is like.")

    def needs(self) -> Mapping[str, str]:
        return {"things": self.thing}

    async def read(self, target: Place, context: ProbeContext) -> Mapping[str, Any]:
        await asyncio.sleep(self.wait)
        if self.shape == "bug":
            raise KeyError("a mistake of the probe's author")
        return {"n": float("nan") if self.shape == "nan" else target.outside.read(self.thing)}


class Gate(Guard):
    """Answers what the test says under ``name``; a gate of which nothing was said is open."""

    shorthand: ClassVar[str | None] = "name"
    name: str = Field(description="Which gate.")
    answers: ClassVar[dict[str, Callable[[GuardContext], Awaitable[Verdict]]]] = {}

    async def check(self, context: GuardContext) -> Verdict:
        answer = self.answers.get(self.name)
        return Verdict.allow() if answer is None else await answer(context)


class TestRegistry:
    """The real guards, and the integrations of this file."""

    __test__ = False

    def __init__(self) -> None:
        self._real = Catalogue()
        self._actions: dict[str, type[Action[Any]]] = {
            "place.put": Put, "place.swap": Swap, "place.settle": Settle, "place.pay": Pay, "place.add": Add,
            "place.kick": Kick, "place.turn": Turn,
        }  # fmt: skip
        self._probes: dict[str, type[Probe[Any]]] = {"place.look": Look}

    def action(self, name: str) -> type[Action[Any]] | None:
        return self._actions.get(name)

    def probe(self, name: str) -> type[Probe[Any]] | None:
        return self._probes.get(name)

    def composite(self, name: str) -> type[Composite] | None:
        return None

    def guard(self, name: str) -> type[Guard] | None:
        return Gate if name == "gate" else self._real.guard(name)

    def target_kind(self, kind: str) -> type[Target] | None:
        return Place if kind == "place" else None

    def names(self, family: str) -> Sequence[str]:
        if family == "guards":
            return [*self._real.names("guards"), "gate"]
        return {"actions": list(self._actions), "probes": list(self._probes), "targets": ["place"]}[family]


EVERYTHING = {"actions": ["place.*"], "things": ["*"]}


def place(outside: Outside | None = None, *, name: str = "here", max_runs: int = 1, **permit: list[str]) -> Place:
    """A target called ``name``; everything is permitted there unless ``permit`` says otherwise."""
    made = Place(name=name, permit={**EVERYTHING, **permit}, max_runs=max_runs)
    made._outside = outside or Outside()
    made._outside.name = name
    return made


class House:
    """A service without its HTTP face, and a person who knows everything about it."""

    def __init__(self, rules: str, *targets: Place, **options: Any) -> None:
        self.clock = LoopClock()
        self.ids = SystemIds(self.clock, options.pop("randomness", os.urandom))
        self.metrics = Metrics()
        self.registry: Registry = TestRegistry()
        self.places = {target.name: target for target in targets or (place(),)}
        self.lease = float(options.pop("lease", 30.0))
        self.poll = float(options.pop("poll", 1.0))
        self.concurrency = int(options.pop("concurrency", 64))
        self.path = str(options.pop("path", ":memory:"))
        self.drop = options.pop("drop", ("pod",))
        self.backlog = int(options.pop("backlog", 1000))
        self.mode_max = Mode(options.pop("mode_max", "auto"))
        self.more_guards: list[dict[str, Any]] = options.pop("more_guards", [])
        self.of_service: Mapping[str, list[dict[str, Any]]] = options.pop("of_service", {})
        self.severities: Mapping[str, Mapping[str, str]] = options.pop("severities", {})
        assert not options, options
        self.store = SqliteStore(self.path, clock=self.clock, ids=self.ids, inline=True)
        self.receipts: list[Receipt] = []
        self._use(rules)
        self.engine = self._engine()
        self.intake = Intake(
            self.store, self._intake_rules(), clock=self.clock, metrics=self.metrics, bounds=Bounds(),
            backlog=self.backlog, deadline=5.0, wake=self.wake,
        )  # fmt: skip
        self.worker = self.new_worker("first")

    # parts -----------------------------------------------------------------------------------------------------------

    def _use(self, rules: str) -> None:
        self.rulebook = rulebook_from_texts([("rules.yaml", rules.encode())], self.registry, self.places)
        self.world = World(
            registry=self.registry,
            rules={rule.name: rule for rule in self.rulebook.rules},
            targets=dict(self.places),
            plans=Plans(self.registry, self.more_guards, self.of_service),
            mode_max=self.mode_max,
            severities=self.severities,
        )

    def _intake_rules(self) -> Any:
        refs = {
            rule.name: RuleRef(
                rule.name, rule.digest, effective_mode(rule, self.mode_max).value,
                locks(rule, self.registry, self.places), rule.when.for_,
            )
            for rule in self.rulebook.rules
        }  # fmt: skip
        watching = watched(self.rulebook.rules, self.registry, self.more_guards)
        return intake_rules(self.rulebook, refs, self.drop, watching)

    def _engine(self) -> Engine:
        return Engine(self.store, lambda: self.world, clock=self.clock, ids=self.ids, metrics=self.metrics)

    def new_worker(self, owner: str) -> Worker:
        """A worker with an engine of its own, as another process would have."""
        return Worker(
            self.store, self._engine(), owner=owner, clock=self.clock, lease=self.lease, concurrency=self.concurrency,
            poll=self.poll,
        )  # fmt: skip

    def wake(self) -> None:
        self.worker.wake()

    async def reload(self, rules: str | None = None, *targets: Place, mode_max: str = "") -> None:
        """Other rules, targets or settings, as the service swaps them: all at once."""
        if targets:
            self.places = {target.name: target for target in targets}
        if mode_max:
            self.mode_max = Mode(mode_max)
        if rules is None:
            self.world = World(
                registry=self.registry, rules=self.world.rules, targets=dict(self.places),
                plans=Plans(self.registry, self.more_guards, self.of_service), mode_max=self.mode_max,
                severities=self.severities,
            )  # fmt: skip
        else:
            self._use(rules)
        await self.store.remember({rule.digest: rule.body for rule in self.rulebook.rules})
        self.intake.replace(self._intake_rules())
        self.wake()

    # what happens to it ----------------------------------------------------------------------------------------------

    async def post(self, *alerts: Mapping[str, Any], **more: Any) -> Receipt:
        """Deliver a body with these alerts."""
        body = {"version": "4", "groupKey": "k", "truncatedAlerts": 0, "status": "firing", "receiver": "remediator",
                "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am",
                "alerts": list(alerts), **more}  # fmt: skip
        receipt = await self.intake.accept(json.dumps(body).encode(), "test")
        self.receipts.append(receipt)
        return receipt

    async def fire(self, name: str = "Alarm", *, since: float | None = None, **labels: str) -> str:
        """One alert begins to fire; the id of the only run it opens, or of the first."""
        receipt = await self.post(self.alert(name, since=since, **labels))
        return receipt.runs[0] if receipt.runs else ""

    def alert(self, name: str = "Alarm", *, since: float | None = None, **labels: str) -> dict[str, Any]:
        """A firing alert as Alertmanager writes it."""
        return {
            "status": "firing", "labels": {"alertname": name, **labels}, "annotations": {"summary": "it is bad"},
            "startsAt": format_instant(since or self.clock.now()), "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "", "fingerprint": "0" * 16,
        }  # fmt: skip

    async def resolve(self, name: str = "Alarm", *, since: float | None = None, **labels: str) -> None:
        """The alert is gone."""
        now = self.clock.now()
        alert = self.alert(name, since=since or now - 1, **labels)
        await self.post({**alert, "status": "resolved", "endsAt": format_instant(now)})

    async def state(self, run_id: str, *states: State, within: float = 86400.0) -> Run:
        """The run once it is in one of ``states``. Raises AssertionError if it is not in time."""
        begun = self.clock.monotonic()
        end = begun + within
        while True:
            run = await self.store.run(run_id)
            if run.state in states:
                return run
            assert self.clock.monotonic() < end, f"{run.state}: {run.reason}: {run.message}"
            assert run.live or run.state is State.NEEDS_HUMAN, f"{run.state}: {run.reason}: {run.message}"
            await asyncio.sleep(min(0.5, 0.01 + 0.02 * (self.clock.monotonic() - begun)))

    async def end(self, run_id: str) -> Run:
        """The run once it has ended in whatever way."""
        return await self.state(run_id, *(s for s in State if s not in invariants.LIVE))

    async def vote(self, run_id: str, yes: bool = True, actor: str = "user:ann") -> Run:
        """A person answers the open question of a run."""
        approval = await self.store.approval(run_id)
        assert approval is not None
        run = await self.store.vote(run_id, approval.digest, actor, yes, "said the test")
        self.wake()
        return run

    async def events(self, run_id: str) -> list[str]:
        """The audit of one run as words."""
        return [record.event for record in await self.store.audit(run=run_id, limit=10_000)]

    async def details(self, run_id: str, event: str) -> list[Any]:
        """What the audit records of one run say under ``event``."""
        records = await self.store.audit(run=run_id, event=event, limit=10_000)
        return [json.loads(record.body)["detail"] for record in records]

    def disk(self, *, full: bool) -> None:
        """From now on the database cannot be written, or can again."""
        writer = self.store._writer
        assert writer is not None
        writer.connection.execute(f"PRAGMA query_only = {int(full)}")

    @property
    def effects(self) -> list[invariants.Effect]:
        """Everything that was truly done outside, in order."""
        found = [effect for target in self.places.values() for effect in target.outside.effects]
        return sorted(found, key=lambda effect: effect.begun)


@asynccontextmanager
async def house(
    rules: str, *targets: Place, work: bool = True, check: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[House]:
    """A running house. At the end its worker is drained and every invariant is checked, with ``check``'s bounds."""
    Gate.answers.clear()
    made = House(rules, *targets, **options)
    outsides = {id(target.outside): target.outside for target in made.places.values()}
    await made.store.open()
    await made.store.remember({rule.digest: rule.body for rule in made.rulebook.rules})
    if work:
        made.worker.start()
    try:
        yield made
        await made.worker.drain(5.0)
        outsides |= {id(target.outside): target.outside for target in made.places.values()}
        effects = [effect for outside in outsides.values() for effect in outside.effects]
        await invariants.check(made.store, effects, receipts=made.receipts, **(check or {}))
    finally:
        await made.worker.drain(0.0)
        await made.store.close()
