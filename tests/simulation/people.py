"""People: they approve, reject, cancel, pause, resume, close what waits for them, and load other rules."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from remediator.errors import Conflict, NotFound, StoreUnavailable
from remediator.rule import Mode
from remediator.run import State
from remediator.store import Pause
from tests.simulation.replica import Replica
from tests.simulation.rules import EDITIONS

SCOPES = ("global", "target:alpha", "target:beta", "rule:kick-door", "rule:put-lamp")


class People:
    """``choose`` names the replica whose console somebody looks at now; ``all_replicas`` are those that reload."""

    def __init__(
        self,
        dice: random.Random,
        choose: Callable[[], Replica | None],
        all_replicas: Callable[[], list[Replica]],
        tell: Callable[..., None],
    ) -> None:
        self._dice = dice
        self._choose = choose
        self._all = all_replicas
        self._tell = tell
        self._digests: list[str] = []
        self.busy = True
        """Whether they still pause and reload; approving and closing goes on."""
        self.rules: tuple[str, Mode] = ("base", Mode.AUTO)

    async def live(self) -> None:
        """Do something now and then, for ever."""
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / 25.0))
            replica = self._choose()
            if replica is None:
                continue
            do = self._dice.choices((self._answer, self._cancel, self._pause, None), (8, 1.0, 1.2, 0.8))[0]
            if do is None:
                self._load()
            elif self.busy or do == self._answer:
                # Nobody waits for a console that hangs; what it does happens in its own time.
                replica.run(self._tried(do, replica), "person")

    async def _tried(self, do: Callable[[Replica], Awaitable[None]], replica: Replica) -> None:
        try:
            await do(replica)
        except (Conflict, NotFound, StoreUnavailable) as error:
            self._tell("person", "no", type(error).__name__)

    async def _answer(self, replica: Replica) -> None:
        runs = await replica.store.runs(states=(State.HELD, State.NEEDS_HUMAN))
        for run in runs:
            if run.state is State.NEEDS_HUMAN:
                if self._dice.random() < 0.3:
                    await replica.store.cancel(run.id, "user:ann", "looked at it")
                continue
            approval = await replica.store.approval(run.id)
            if approval is None or approval.state != "pending" or self._dice.random() < 0.2:
                continue
            digest = approval.digest
            if self._digests and self._dice.random() < 0.1:
                digest = self._dice.choice(self._digests)  # A page that was opened long ago.
            self._digests.append(approval.digest)
            who = self._dice.choice(("user:ann", "user:bob", "user:cy"))
            await replica.store.vote(run.id, digest, who, self._dice.random() < 0.9, "said a person")
            replica.worker.wake()

    async def _cancel(self, replica: Replica) -> None:
        runs = await replica.store.runs(states=(State.QUEUED, State.HELD))
        if runs:
            await replica.store.cancel(self._dice.choice(runs).id, "user:bob", "not needed")

    async def _pause(self, replica: Replica) -> None:
        pauses = await replica.store.pauses()
        if pauses and self._dice.random() < 0.7:
            await replica.store.resume(self._dice.choice(pauses).scope, "user:ann", "go on")
            replica.worker.wake()
            return
        until = None
        if self._dice.random() < 0.4:
            until = replica.clock.now() + self._dice.uniform(5, 90)
        scope = self._dice.choice(SCOPES)
        await replica.store.pause(Pause(scope, "wait", "user:ann", replica.clock.now(), until))

    def hurry(self) -> None:
        """Pause everything for a moment, now."""
        replica = self._choose()
        if replica is not None:
            replica.run(self._tried(self._stop_all, replica), "hasty person")

    async def _stop_all(self, replica: Replica) -> None:
        now = replica.clock.now()
        await replica.store.pause(Pause("global", "stop", "user:cy", now, now + self._dice.uniform(20, 90)))

    def _load(self) -> None:
        if self.busy:
            self.rules = (self._dice.choice(tuple(EDITIONS)), self._dice.choice((*Mode, Mode.AUTO, Mode.AUTO)))
        for replica in self._all():
            # A roll-out: one replica after the other, and some are missed until the next one.
            if self._dice.random() < 0.9:
                replica.run(self._later(replica, self.rules), "reload")

    async def _later(self, replica: Replica, rules: tuple[str, Mode]) -> None:
        await asyncio.sleep(self._dice.uniform(0, 20))
        if replica.ready:
            await self._tried(lambda one: one.reload(rules), replica)
