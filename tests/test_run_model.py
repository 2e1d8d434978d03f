"""A model of runs: whatever happens to them in whatever order, the loop is closed and every invariant holds.

hypothesis draws lists of moves: alerts, people, reloads, deaths, faults of the target, and time. Each list is played to
one whole engine in virtual time, in an order of tasks that is drawn too; a failing one is printed as `play` takes it.
`REMEDIATOR_MODEL_EXAMPLES=2000` plays more and other ones, and makes a failing one small; that takes minutes, so
say `-o faulthandler_timeout=0` as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from remediator import crashpoint
from remediator.errors import Conflict, NotFound
from remediator.rule import Rule
from remediator.run import LIVE, Kind, Run, State
from remediator.store import Pause
from tests import closed_loop, invariants
from tests.engine_world import House, house
from tests.simulation.loop import Died, Process, SimulatedLoop, current_process

EXAMPLES = int(os.environ.get("REMEDIATOR_MODEL_EXAMPLES", "0"))
MOST = 40
"""Moves in one example."""

_TURN = "{{uses: place.turn, target: here, with: {{thing: {0}, to: {1}}}, timeout: 20s, {2}retry: {{attempts: 2}}}}"
_PUT = "{{uses: place.put, target: here, with: {{thing: {0}, to: {1}}}, timeout: 20s, retry: {{attempts: 3}}}}"


def _turn(thing: str, to: int, lease: str = "") -> str:
    return _TURN.format(thing, to, f"lease: {{{lease}}}, " if lease else "")


RULES = f"""
rules:
  - name: ladder
    mode: auto
    when: {{alert: Slow}}
    guards: [{{cooldown: 3m}}]
    probes: [{{id: jobs, uses: place.look, target: here, with: {{thing: jobs}}}}]
    remedies:
      - name: workers
        steps:
          - {_PUT.format("paused", 1)}
          - {_turn("workers", 5)}
        verify: {{until: probes.jobs.n == 0, within: 5m, every: 20s, settle: 1m}}
      - name: epoch
        steps:
          - {{wait: 2m}}
          - {_turn("epoch", 1, "settle: 4m, at_most: 20m")}
        verify: {{until: alert.resolved, within: 6m, every: 30s}}
      - name: valve
        if: probes.jobs.n < 50
        keep: true
        steps: [{_turn("valve", 3)}]
        verify: {{until: alert.resolved, within: 4m}}
    finally:
      - {_PUT.format("paused", 0)}
  - name: lend
    mode: auto
    when: {{alert: [Slow, Full]}}
    guards: [{{rate_limit: {{runs: 2, per: 10m}}}}]
    probes: [{{id: jobs, uses: place.look, target: here, with: {{thing: jobs}}}}]
    steps:
      - {_turn("lamp", 4, "settle: 5m, at_most: 30m")}
      - {{wait: {{until: probes.jobs.n < 50, within: 3m, every: 30s}}}}
      - {_turn("bell", 2, "settle: 1m, at_most: 15m")}
  - name: borrow
    mode: auto
    when: {{alert: Full}}
    remedies:
      - steps: [{_turn("lamp", 9, "settle: 2m, at_most: 40m")}, {_turn("horn", 1)}]
        verify: {{until: alert.resolved, within: 3m}}
      - steps: [{{uses: place.kick, target: here, with: {{thing: drum}}, timeout: 20s}}]
  - name: asked
    mode: approve
    when: {{alert: Odd}}
    guards: [{{approval: {{needed: 1, expires: 20m}}}}]
    steps:
      - {_turn("door", 3, "settle: 3m, at_most: 25m")}
      - {{wait: 1m}}
      - {_turn("gate", 1)}
    verify: {{until: alert.resolved, within: 5m}}
    finally:
      - {_PUT.format("light", 0)}
    max_age: 30m
"""
EDITIONS = {
    "same": RULES,
    "edited": RULES.replace("to: 5}", "to: 6}").replace("thing: door, to: 3", "thing: door, to: 4"),
    "without": RULES.replace("name: lend", "name: lent").replace("name: asked", "name: other"),
}
ALERTS = ("Slow", "Full", "Odd")
THINGS = ("workers", "epoch", "lamp", "bell", "horn", "door", "jobs")
FAULTS = ("refused", "denied", "lost request", "lost reply", "no answer", "slow 8", "slow 15", "fine")
CEILINGS = ("auto", "auto", "approve", "observe")
SCOPES = ("global", "rule:ladder", "rule:lend", "target:here")
POINTS = tuple(point for point in crashpoint.POINTS if not point.startswith(("intake.", "money.", "approval.after_v")))

WHICH = st.integers(0, 2)
Move = tuple[Any, ...]
Timed = tuple[Move, float]
MOVES: st.SearchStrategy[Move] = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((0, 1, 5, 20, 60, 150, 300, 700, 2000, 7200))),
    st.tuples(st.just("fire"), st.sampled_from(ALERTS)),
    st.tuples(st.just("resolve"), st.sampled_from(ALERTS)),
    st.tuples(st.just("echo"), st.sampled_from(ALERTS)),
    *2 * (st.tuples(st.just("fault"), st.sampled_from(FAULTS)),),
    st.tuples(st.just("kill")),
    *2 * (st.tuples(st.just("kill at"), st.sampled_from(POINTS), st.integers(1, 4)),),
    st.tuples(st.just("drain")),
    *2 * (st.tuples(st.just("answer"), WHICH, st.sampled_from((True, True, False)), st.sampled_from((False, True))),),
    st.tuples(st.just("cancel"), WHICH),
    st.tuples(st.just("keep"), WHICH),
    st.tuples(st.just("put back"), WHICH),
    *2 * (st.tuples(st.just("change"), st.sampled_from(THINGS), st.sampled_from((0, 5, 7, 60))),),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("pause"), st.sampled_from(SCOPES), st.sampled_from((None, 30.0, 600.0))),
    st.tuples(st.just("resume")),
    st.tuples(st.just("load"), st.sampled_from((*EDITIONS, "same")), st.sampled_from(CEILINGS)),
)  # fmt: skip
TIMED = st.tuples(MOVES, st.sampled_from((0, 1, 3, 10, 30, 70, 200, 400, 900)))
"""A move, and the seconds after it."""
BEGINNING = st.tuples(st.tuples(st.just("fire"), st.sampled_from(ALERTS)), st.sampled_from((0, 1, 3, 30, 400)))
# Most of what matters needs a while; what fails is made shorter than that.
LISTS = st.one_of(*(st.lists(TIMED, min_size=least, max_size=MOST - 1) for least in (0, 12, 24, 30)))
EXAMPLE = st.tuples(BEGINNING, LISTS)


class Player:
    """Makes the moves, and remembers what the world outside knows."""

    def __init__(self, h: House) -> None:
        self.h = h
        self.loop = asyncio.get_running_loop()
        self.outside = h.places["here"].outside
        self.since: dict[str, float] = {}
        """When each alert began, the last time."""
        self.firing: set[str] = set()
        self.digests: list[str] = []
        self.rules: dict[str, Rule] = {}
        self.process = Process("none")
        self.born = 0
        self.doom: tuple[str, int] | None = None
        self._learn()
        self._begin()

    def _learn(self) -> None:
        self.rules |= {rule.digest: rule for rule in self.h.rulebook.rules}

    # the process of the worker ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.born += 1
        self.process = Process(f"worker-{self.born}")
        self.h.worker = self.h.new_worker(self.process.name)
        self.process.context.copy().run(self.h.worker.start)

    def _bury(self) -> None:
        """It is dead; another one begins, and looks again when the dead one's leases are over."""
        self.process.alive = False
        self._begin()
        for later in (10.0, 31.0, 62.0):
            self.loop.call_later(later, self.h.wake)

    def passage(self, point: str) -> None:
        """The worker passes a crash point; it dies there if that was its doom."""
        if self.doom is None or self.doom[0] != point or current_process() is not self.process:
            return
        name, left = self.doom
        self.doom = (name, left - 1) if left > 1 else None
        if left == 1:
            self.loop.call_soon(self._bury, context=Process("world").context)
            self.process.alive = False
            if point != "store.after_commit":
                raise Died

    async def kill(self) -> None:
        self._bury()

    async def kill_at(self, point: str, times: int) -> None:
        self.doom = (point, times)

    async def drain(self) -> None:
        await self.h.worker.drain(2.0)
        self._begin()

    # alerts, time and the target -------------------------------------------------------------------------------------

    async def fire(self, name: str) -> None:
        if name not in self.firing:
            self.since[name] = self.h.clock.now()
            self.firing.add(name)
        await self.h.fire(name, since=self.since[name])
        self.h.wake()

    async def resolve(self, name: str) -> None:
        if name in self.firing:
            self.firing.remove(name)
            await self.h.resolve(name, since=self.since[name])
            self.h.wake()

    async def echo(self, name: str) -> None:
        """A notice of the last life that comes late."""
        if name in self.since:
            await self.h.fire(name, since=self.since[name])

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def fault(self, kind: str) -> None:
        self.outside.faults.append(kind)

    async def away(self, gone: bool) -> None:
        self.outside.away = gone

    async def change(self, thing: str, value: int) -> None:
        self.outside.meddle(thing, value, self.h.clock.now())

    # people ----------------------------------------------------------------------------------------------------------

    async def _runs(self, kind: Kind, *states: State) -> Sequence[Run]:
        return await self.h.store.runs(kinds=(kind,), states=states)

    async def answer(self, number: int, yes: bool, old: bool) -> None:
        """A person answers an open question, or one that is asked no more."""
        asked = [run for run in await self._runs(Kind.REMEDY, State.HELD) if run.reason == "approval"]
        if not asked:
            return
        run = asked[number % len(asked)]
        approval = await self.h.store.approval(run.id)
        assert approval is not None
        self.digests.append(approval.digest)
        digest = self.digests[0] if old else approval.digest
        await self.h.store.vote(run.id, digest, "user:ann", yes, "said the model")
        self.h.wake()

    async def cancel(self, number: int) -> None:
        await self._of(Kind.REMEDY, number, lambda run: self.h.store.cancel(run.id, "user:bob", "enough"))

    async def keep(self, number: int) -> None:
        await self._of(Kind.REVERT, number, lambda run: self.h.store.cancel(run.id, "user:ann", "it is good"))

    async def put_back(self, number: int) -> None:
        await self._of(Kind.REVERT, number, lambda run: self.h.store.hasten(run.id, "user:ann", "now"))

    async def _of(self, kind: Kind, number: int, do: Callable[[Run], Awaitable[Run]]) -> None:
        found = await self._runs(kind, State.QUEUED, State.HELD, State.NEEDS_HUMAN)
        if found:
            await do(found[number % len(found)])
            self.h.wake()

    async def pause(self, scope: str, seconds: float | None) -> None:
        now = self.h.clock.now()
        await self.h.store.pause(Pause(scope, "stop", "user:cy", now, None if seconds is None else now + seconds))

    async def resume(self) -> None:
        for pause in await self.h.store.pauses():
            await self.h.store.resume(pause.scope, "user:cy", "go on")
        self.h.wake()

    async def load(self, edition: str, mode_max: str) -> None:
        await self.h.reload(EDITIONS[edition], mode_max=mode_max)
        self._learn()

    # a whole example -------------------------------------------------------------------------------------------------

    async def play(self, moves: Sequence[Timed]) -> None:
        """Everything in its order. What people may not do now they are told."""
        for (name, *values), after in moves:
            with contextlib.suppress(Conflict, NotFound):
                await getattr(self, name.replace(" ", "_"))(*values)
            await asyncio.sleep(after)

    async def calm(self) -> None:
        """All is repaired, the alerts end, and everything comes to its end."""
        self.doom = None
        self.outside.faults.clear()
        self.outside.away = False
        await self.load("same", "auto")
        await self.resume()
        for name in sorted(self.firing):
            await self.resolve(name)
        for _ in range(240):
            await asyncio.sleep(60)
            if not await self.h.store.runs(kinds=tuple(Kind), states=tuple(LIVE)):
                return


async def _example(moves: Sequence[Timed], entropy: random.Random) -> None:
    async with house(RULES, work=False, check={"ended": True}, poll=30.0, randomness=entropy.randbytes) as h:
        player = Player(h)
        crashpoint.on_passage(player.passage)
        await player.play(moves)
        await player.calm()
        history = await invariants.History.read(h.store)
        closed_loop.check(history, player.rules, player.outside.writes)
        await closed_loop.timely(h.store, history)
        closed_loop.left_to_others(history, player.outside.writes)
        assert not any(run.reason == "bug" for run in history.runs.values()), "a bug stopped a run"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without log lines, which thousands of faults would write."""

    def drop(logger: object, method: str, line: Any) -> Any:
        raise structlog.DropEvent

    before = structlog.get_config() if structlog.is_configured() else {}
    structlog.configure(processors=[drop], wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.reset_defaults()
        if before:
            structlog.configure(**before)


def play(moves: Sequence[Timed], order: int) -> None:
    """One example; ``order`` 0 lets tasks run in the order in which they became ready."""
    loop = SimulatedLoop(random.Random(order), shuffled=order > 0)
    try:
        with _quiet():
            loop.run_until_complete(loop.create_task(_example(moves, random.Random(order))))
            assert not loop.failures, loop.failures[0]
    finally:
        crashpoint.on_passage(None)
        loop.wind_up()


@settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    # Making a failed example small takes minutes; the suite prints it as it is.
    phases=tuple(Phase) if EXAMPLES else (Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(EXAMPLE, st.integers(0, 255))
def test_whatever_happens_the_loop_is_closed(example: tuple[Timed, list[Timed]], order: int) -> None:
    """Any order of alerts, people, faults and deaths: final steps run, leases end, nobody's value is overwritten."""
    first, more = example
    play((first, *more), order)
