"""What the simulated replicas act on: targets with one action of every effect class, and the record of true effects.

A request is on its way apart from the process that sent it: it arrives although its sender died or was stopped, and
its reply may be lost. What it does and what it answers is decided where it arrives.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.catalogue import Catalogue
from remediator.composite import Composite
from remediator.crashpoint import crashpoint
from remediator.errors import PermanentError, TemporaryError
from remediator.guard import Guard
from remediator.probe import Probe, ProbeContext
from remediator.target import Target
from tests import invariants
from tests.closed_loop import Write
from tests.simulation.loop import EPOCH, Died, SimulatedLoop, current_process

if TYPE_CHECKING:
    from tests.simulation.witness import Witness

TIMEOUT = 20.0
"""The time-out of every step of the simulated rules."""
_REACH = 0.9 * TIMEOUT
"""A request that can be seen to have arrived or not (conditional, probe) arrives within this time, or never."""


class Server:
    """What stands behind a target: values of things, their versions, keys that were seen, and what was truly done."""

    def __init__(self, name: str, loop: SimulatedLoop, dice: random.Random, witness: Witness) -> None:
        self.name = name
        self.loop = loop
        self.dice = dice
        self.witness = witness
        self.trouble = 0.0
        """The share of requests that do not end as they should."""
        self.pace = 0.2
        """How long an answer takes at most, in seconds, when all is well."""
        self.values: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.keys: set[str] = set()
        self.done: list[invariants.Effect] = []
        self.writes: list[Write] = []
        """Every value that was written, ours and other people's, in order."""

    def meddle(self, thing: str, value: int) -> None:
        """Somebody else sets a thing."""
        self.witness.tell(f"{self.name}.{thing}", "is set by somebody", value)
        now = EPOCH + self.loop.time()
        self.writes.append(Write(self.name, thing, now, self.values.get(thing, 0), value))
        self.values[thing] = value

    async def read(self, thing: str) -> int:
        """The value of a thing. Raises TemporaryError when the server does not answer."""
        await asyncio.sleep(self.dice.random() * self.pace)
        if self.dice.random() < self.trouble / 2:
            raise TemporaryError("connection refused", reason="refused")
        return self.values.get(thing, 0)

    async def request(self, lever: Lever, context: ActionContext, do: Callable[[], object]) -> None:
        """Send a request and wait for its answer. ``do`` happens when and if it arrives."""
        context.check_deadline()
        process = current_process()
        if process is not None and not process.alive:
            raise Died
        self.witness.begins(context.run_id, context.step, context.attempt)
        visible = lever.effect in (Effect.CONDITIONAL, Effect.PROBE)
        begun, fate = EPOCH + self.loop.time(), self._fate(8 if visible else 2)
        if fate == "refused":
            raise TemporaryError("connection refused", reason="refused")
        if fate == "denied":
            raise PermanentError("403: forbidden", reason="status_403")
        answer: asyncio.Future[None] = self.loop.create_future()
        if fate == "lost request":
            self.loop.world(self.dice.uniform(0.1, 5.0), _answer, answer, ConnectionResetError("reset"))
        else:
            reach = _REACH if visible else 4 * TIMEOUT
            # Rather late than soon: what matters is what happens before it arrives.
            delay = (1 - self.dice.random() ** 3) * reach if fate == "slow" else self.dice.random() * self.pace
            self.loop.world(delay, self._arrive, lever, context, do, begun, answer, fate)
        crashpoint("request sent")
        if fate == "slow" and visible:
            crashpoint("slow request sent")
        await answer

    def _fate(self, slow: int) -> str:
        if self.dice.random() >= self.trouble:
            return "fine"
        return self.dice.choice(("refused", "denied", "lost request", "lost reply", "no reply", *slow * ("slow",)))

    def _arrive(
        self,
        lever: Lever,
        context: ActionContext,
        do: Callable[[], object],
        begun: float,
        answer: asyncio.Future[None],
        fate: str,
    ) -> None:
        was = self.values.get(lever.thing, 0)
        try:
            happened = do() is not False
        except (TemporaryError, PermanentError) as error:
            self.loop.world(0.01, _answer, answer, error)
            return
        if happened:
            effect = invariants.Effect(
                run=context.run_id, step=context.step, attempt=context.attempt, target=self.name, subject=lever.thing,
                kind=lever.effect, begun=begun, ended=EPOCH + self.loop.time(),
            )  # fmt: skip
            self.done.append(effect)
            by = (context.run_id, context.step, context.attempt)
            self.writes.append(Write(self.name, lever.thing, effect.ended, was, self.values.get(lever.thing, 0), by))
        what = f"{self.name}.{lever.thing}"
        self.witness.tell(what, "arrived", context.run_id, context.step, context.attempt, happened, fate)
        if fate != "no reply":
            broken = ConnectionResetError("reset before the reply") if fate == "lost reply" else None
            self.loop.world(self.dice.uniform(0.001, 0.1), _answer, answer, broken)


def _answer(answer: asyncio.Future[None], error: Exception | None) -> None:
    if answer.done():
        return  # Whoever asked gave up.
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)


class Place(Target):
    """A simulated target."""

    lists: ClassVar[tuple[str, ...]] = ("things",)
    _server: Server = PrivateAttr()

    @property
    def server(self) -> Server:
        return self._server


def place(name: str, server: Server | None = None, *, max_runs: int = 1) -> Place:
    """A target that permits everything; without a server it is only good for reading rules."""
    made = Place(name=name, permit={"actions": ["place.*"], "things": ["*"]}, max_runs=max_runs)
    if server is not None:
        made._server = server
    return made


class Lever(Action[Place]):
    """What all actions of a place share."""

    thing: str = Field(description="What is acted on.", max_length=20, pattern="^[a-z0-9-]+$")

    def needs(self) -> Mapping[str, str]:
        return {"things": self.thing}

    def subject(self) -> str:
        return self.thing


class Put(Lever):
    """Sets a thing to a number: idempotent."""

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    to: int = Field(description="The number.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        before = await target.server.read(self.thing)
        return Change(summary=f"{self.thing} {before} → {self.to}", before={"n": before}, after={"n": self.to})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        await target.server.request(self, context, lambda: target.server.values.update({self.thing: self.to}))
        return Outcome(summary=f"{self.thing} is {self.to}", data={"n": self.to})


class Settle(Put):
    """Sets a thing and looks until it is so."""

    async def verify(self, target: Place, change: Change, context: ActionContext) -> None:
        if await target.server.read(self.thing) != self.to:
            raise TemporaryError("not so yet", reason="not_ready")


class Swap(Put):
    """Sets a thing if its version is still the one that was read: conditional."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    async def diff(self, target: Place, context: ActionContext) -> Change:
        change = await super().diff(target, context)
        version = target.server.versions.get(self.thing, 0)
        return Change(summary=change.summary, before=change.before, after=change.after, volatile={"version": version})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        server = target.server

        def swap() -> None:
            if server.versions.get(self.thing, 0) != change.volatile["version"]:
                raise TemporaryError("409: somebody else changed it", reason="conflict")
            server.values[self.thing] = self.to
            server.versions[self.thing] = server.versions.get(self.thing, 0) + 1

        await server.request(self, context, swap)
        return Outcome(summary=f"{self.thing} is {self.to}")

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        return await _seen(target.server, self, context)


class Turn(Put):
    """Sets a thing, and can be taken back while it still is as it was left."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    only_from: int | None = Field(default=None, description="Act only if this is the number now.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        change = await super().diff(target, context)
        if self.only_from is not None and change.before["n"] not in (self.to, self.only_from):
            raise PermanentError(f"{self.thing} is {change.before['n']} and not {self.only_from}", reason="changed")
        return change

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        server = target.server

        def turn() -> None:
            if server.values.get(self.thing, 0) != change.before["n"]:
                raise TemporaryError("409: somebody else changed it", reason="conflict")
            server.values[self.thing] = self.to

        await server.request(self, context, turn)
        return Outcome(summary=f"{self.thing} is {self.to}")

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        return await _seen(target.server, self, context)

    def inverse(self, change: Change) -> Turn:
        return Turn(thing=self.thing, to=change.before["n"], only_from=change.after["n"])


class Add(Lever):
    """Adds to a thing; who added can be read afterwards: probe."""

    effect: ClassVar[Effect] = Effect.PROBE
    by: int = Field(description="How much.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        before = await target.server.read(self.thing)
        return Change(summary=f"add {self.by}", before={"n": before}, after={"n": before + self.by})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        values = target.server.values
        do = lambda: values.update({self.thing: values.get(self.thing, 0) + self.by})  # noqa: E731 - a line long
        await target.server.request(self, context, do)
        return Outcome(summary=f"added {self.by}")

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        return await _seen(target.server, self, context)


async def _seen(server: Server, lever: Lever, context: ActionContext) -> Happened:
    await server.read(lever.thing)
    found = any(effect.run == context.run_id and effect.step == context.step for effect in server.done)
    return Happened.YES if found else Happened.NO


class Pay(Lever):
    """Pays once for a key, however often it is asked: keyed."""

    effect: ClassVar[Effect] = Effect.KEYED
    amount: int = Field(description="How much.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        return Change(summary=f"pay {self.amount} to {self.thing}", before={}, after={"pay": self.amount})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        server = target.server

        def pay() -> bool:
            if context.key in server.keys:
                return False
            server.keys.add(context.key)
            server.values[self.thing] = server.values.get(self.thing, 0) + self.amount
            return True

        await server.request(self, context, pay)
        return Outcome(summary=f"paid {self.amount}")

    async def reconcile(self, target: Place, change: Change, context: ActionContext) -> Happened:
        await target.server.read(self.thing)
        return Happened.YES if context.key in target.server.keys else Happened.UNKNOWN


class Kick(Lever):
    """Kicks a thing; nobody can see afterwards whether it was kicked: once."""

    effect: ClassVar[Effect] = Effect.ONCE

    async def diff(self, target: Place, context: ActionContext) -> Change:
        return Change(summary=f"kick {self.thing}", before={}, after={"kick": self.thing})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        await target.server.request(self, context, lambda: None)
        return Outcome(summary=f"kicked {self.thing}")


class Look(Probe[Place]):
    """Reads a thing."""

    thing: str = Field(description="What is looked at.")

    def needs(self) -> Mapping[str, str]:
        return {"things": self.thing}

    async def read(self, target: Place, context: ProbeContext) -> Mapping[str, Any]:
        return {"n": await target.server.read(self.thing)}


class PlaceRegistry:
    """The real guards, and the actions of this file."""

    def __init__(self) -> None:
        self._real = Catalogue()
        self._actions: dict[str, type[Action[Any]]] = {
            "place.put": Put, "place.settle": Settle, "place.swap": Swap, "place.add": Add, "place.pay": Pay,
            "place.kick": Kick, "place.turn": Turn,
        }  # fmt: skip

    def action(self, name: str) -> type[Action[Any]] | None:
        return self._actions.get(name)

    def probe(self, name: str) -> type[Probe[Any]] | None:
        return Look if name == "place.look" else None

    def composite(self, name: str) -> type[Composite] | None:
        return None

    def guard(self, name: str) -> type[Guard] | None:
        return self._real.guard(name)

    def target_kind(self, kind: str) -> type[Target] | None:
        return Place if kind == "place" else None

    def names(self, family: str) -> Sequence[str]:
        if family == "guards":
            return self._real.names("guards")
        return {"actions": list(self._actions), "probes": ["place.look"], "targets": ["place"]}[family]
