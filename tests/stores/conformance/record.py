"""What every store must do for the audit: one chain over everything, and no move without its record."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from itertools import pairwise

from remediator.audit import GENESIS, Entry, verify
from remediator.errors import StoreError
from remediator.run import LIVE, MOVES, Lock, Run, State
from remediator.store import Claim, Licence, Pause
from tests.stores.conformance.kit import T0, Bench, ref

SILENT = {(State.VERIFYING, State.VERIFYING)}
"""A look that saw no change is not recorded, nor is the claim for it: the run's progress keeps how often it looked."""


class Record:
    """The verbs ``append``, ``audit`` and ``audit_stream``, and the promise that all other verbs make."""

    async def test_the_chain_covers_everything_in_order(self, bench: Bench) -> None:
        """Numbers rise without a gap, each record names the one before it, and the whole recomputes."""
        await bench.acted("a", ref())
        await bench.store.append(Entry(event="user.login", actor="user:ann", detail={"ok": True, "what": "数 🙂"}))
        records = await bench.records()
        assert [record.sequence for record in records] == list(range(1, len(records) + 1))
        assert records[0].previous == GENESIS.hex()
        assert all(later.previous == earlier.digest for earlier, later in pairwise(records))
        answer = verify(records)
        assert (answer.ok, answer.records, answer.head) == (True, len(records), records[-1].digest)
        assert json.loads(records[-1].body)["detail"] == {"ok": True, "what": "数 🙂"}

    async def test_records_bear_the_stores_time(self, bench: Bench) -> None:
        """The time of a record is that of its commit and never what a caller says; it never falls."""
        bench.clock.pass_(5)
        await bench.store.append(Entry(event="one", actor="a", detail={"at": 1.0}))
        bench.clock.pass_(5)
        await bench.store.append(Entry(event="two", actor="a"))
        assert [record.at for record in await bench.records()] == [T0 + 5, T0 + 10]

    async def test_entries_of_one_call_stay_together(self, bench: Bench) -> None:
        """Many writers at once never get between the records of one move."""
        await asyncio.gather(
            *(
                bench.store.append(*(Entry(event=f"{writer}.{part}", actor="a") for part in range(3)))
                for writer in range(50)
            )
        )
        events = await bench.events()
        assert sorted(events[0::3]) == sorted(f"{writer}.0" for writer in range(50))
        assert all(
            events[at + 1 : at + 3] == [f"{events[at][:-2]}.1", f"{events[at][:-2]}.2"] for at in range(0, 150, 3)
        )
        assert (await bench.verified()).ok

    async def test_records_can_be_found(self, bench: Bench) -> None:
        """By run, by rule, by event; from the oldest up or from the newest down; and page by page."""
        one = await bench.acted("a", ref("rule-a"))
        await bench.acted("b", ref("rule-b"))
        everything = await bench.records()
        assert [r for r in everything if r.run_id == one.id] == list(await bench.store.audit(run=one.id))
        assert [r for r in everything if r.rule == "rule-b"] == list(await bench.store.audit(rule="rule-b"))
        assert [r for r in everything if r.event == "run.queued"] == list(await bench.store.audit(event="run.queued"))
        assert list(await bench.store.audit(after=3, limit=2)) == everything[3:5]
        assert list(await bench.store.audit(before=4, limit=2)) == everything[2:0:-1]
        assert list(await bench.store.audit(after=len(everything))) == []

    async def test_the_stream_is_whole_however_long_it_is(self, bench: Bench) -> None:
        """Verification and export see every record of a long chain, and records that are added meanwhile do no harm."""
        for _ in range(5):
            await bench.store.append(*(Entry(event="fill", actor="a") for _ in range(500)))
        count = 0
        async for record in bench.store.audit_stream():
            count += 1
            assert record.sequence == count
            if count == 1200:
                await bench.store.append(Entry(event="meanwhile", actor="a"))
        assert count >= 2500
        assert (await bench.verified()).records == 2501

    async def test_no_run_moves_without_its_record(self, bench: Bench) -> None:
        """Over random histories of every verb, whatever moved a run left a record about that run in the same commit."""
        seen = set[tuple[State, State]]()
        for seed in range(10):
            walk = _Walk(bench, random.Random(seed), f"s{seed}", seen)
            for _ in range(70):
                await walk.step()
        answer = await bench.verified()
        counts = await bench.store.counts()
        assert answer.ok and answer.records == counts.audit_records
        assert sum(counts.states.values()) == len(await bench.store.runs(limit=100_000)) > 60
        moves = {(was, now) for was, now in seen if was is not now}
        assert len(moves) > 12, f"the histories are too tame: {sorted(moves)}"


class _Walk:
    """A random history; after each verb it compares every run with what it was and with its records."""

    def __init__(self, bench: Bench, dice: random.Random, name: str, seen: set[tuple[State, State]]) -> None:
        self.bench = bench
        self.dice = dice
        self.name = name
        self.seen = seen
        self.claims: list[Claim] = []
        self.licences: list[Licence] = []

    async def _runs(self) -> dict[str, Run]:
        return {run.id: run for run in await self.bench.store.runs(limit=100_000)}

    async def step(self) -> None:
        """One verb, and what must hold after it."""
        before, records = await self._runs(), len(await self.bench.records())
        verb = self.dice.choice(
            (self._fires, self._fires, self._claims, self._claims, self._licence, self._outcome, self._save, self._ends,
             self._vote, self._cancel, self._pause, self._time)
        )  # fmt: skip
        with suppress(StoreError):  # A refused verb must have changed nothing, which is compared like any other one.
            await verb()
        after = await self._runs()
        added = (await self.bench.records())[records:]
        for run_id, run in after.items():
            was = before.get(run_id)
            if was is None:
                assert run.state in (State.QUEUED, State.CANCELLED)
                assert any(r.run_id == run_id and r.event == "run.queued" for r in added)
            elif (was.state, was.version) != (run.state, run.version):
                move = was.state, run.state
                self.seen.add(move)
                assert move in MOVES, f"{verb.__name__} made a move that there is not: {move}"
                assert move in SILENT or any(r.run_id == run_id for r in added), f"{verb.__name__}: {move} unrecorded"
        assert all(was.state in LIVE or was.state is State.NEEDS_HUMAN or after[i] == was for i, was in before.items())

    def _rule(self) -> tuple[str, Lock]:
        number = self.dice.randrange(4)
        return f"rule-{number}", Lock(f"t{number % 3}", self.dice.choice(("", "web", "db")), self.dice.choice((1, 2)))

    async def _fires(self) -> None:
        rule = ref(*self._rule(), wait=self.dice.choice((0.0, 0.0, 20.0)))
        await self.bench.fires(f"{self.name}-{self.dice.randrange(12)}", rule)

    async def _ends(self) -> None:
        if names := [name for name in self.bench.started if name.startswith(self.name)]:
            await self.bench.ends(self.dice.choice(names))

    async def _claims(self) -> None:
        self.claims += await self.bench.claim(f"w{self.dice.randrange(3)}", most=self.dice.randint(1, 3))

    async def _licence(self) -> None:
        if claims := [claim for claim in self.claims if claim.run.state is State.RUNNING]:
            claim = self.dice.choice(claims)
            answer = await self.bench.store.licence(self.bench.request(claim, attempt=claim.run.epoch))
            if isinstance(answer, Licence):
                self.licences.append(answer)

    async def _outcome(self) -> None:
        if self.licences:
            licence = self.licences.pop(self.dice.randrange(len(self.licences)))
            to = self.dice.choice((State.VERIFYING, State.SUCCEEDED, State.FAILED, State.NEEDS_HUMAN, State.RUNNING))
            await self.bench.concluded(licence, to, wake_at=self.bench.clock.at + 10)

    async def _save(self) -> None:
        if self.claims:
            claim = self.claims.pop(self.dice.randrange(len(self.claims)))
            to = self.dice.choice([to for was, to in MOVES if was is claim.run.state])
            if to is State.HELD and self.dice.random() < 0.7:
                await self.bench.asked(claim, needed=self.dice.choice((1, 2)), expires_in=60)
            else:
                await self.bench.moved(claim.run, to, wake_at=self.bench.clock.at + self.dice.choice((0, 15)))

    async def _vote(self) -> None:
        held = await self.bench.store.runs(states=[State.HELD])
        if held:
            run = self.dice.choice(held)
            who, yes = f"user:{self.dice.randrange(3)}", self.dice.random() < 0.7
            await self.bench.store.vote(run.id, "what was shown", who, yes, "")

    async def _cancel(self) -> None:
        runs = await self.bench.store.runs(limit=20)
        if runs:
            await self.bench.store.cancel(self.dice.choice(runs).id, "user:ann", "")

    async def _pause(self) -> None:
        scope = self.dice.choice(("global", "rule:rule-1", "target:t2"))
        if self.dice.random() < 0.3:
            await self.bench.store.pause(Pause(scope, "", "user:ann", 0.0, 30.0))
        else:
            await self.bench.store.resume(scope, "user:ann", "")

    async def _time(self) -> None:
        self.bench.clock.pass_(self.dice.choice((1, 5, 31)))
