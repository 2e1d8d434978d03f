"""One run of chaos from beginning to end: senders and faults for a while, then peace, then judgement."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remediator.run import LIVE
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.judgement import Judged, bugs, judge
from tests.chaos.rules import RULES
from tests.chaos.schedule import schedule
from tests.chaos.senders import Prometheus, Senders, admitted, alertmanagers, approvers
from tests.chaos.trouble import Trouble
from tests.servers import Server

_SETTLE = 150.0
"""Seconds in which, once everything is mended, every run must have come to its end.

Longer than a run waits for the end of its alert: nobody tells that end where Alertmanager never saw the beginning
accepted, because the answer was lost, and the problem was over before it could try again.
"""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened, all of it right."""

    seed: int
    seconds: float
    trouble: Trouble
    senders: Senders
    fed: int
    """Problems that the pair of Alertmanagers was told of."""
    door: list[tuple[int, bytes]]
    judged: Judged
    effects: int
    settled: float
    """Seconds from the end of the trouble until the last run had ended."""

    def __str__(self) -> str:
        bodies, problems, door = admitted(self.door)
        sent, judged = self.senders, self.judged
        rows = {
            "faults": f"{sum(self.trouble.had.values())}: {_counts(self.trouble.had)}",
            "senders": f"{len(sent.acknowledged)} deliveries acknowledged, none lost; answers {_counts(sent.statuses)}",
            "pair": f"{self.fed} problems, {len(problems)} of them delivered, in {len(bodies)} bodies, none lost; "
            f"answers {_counts(door)}",
            "runs": f"{len(judged.runs)}, one for each problem: {_counts(judged.ends)}",
            "effects": f"{self.effects} seen by the target, under {judged.licences} licences",
            "recovered": f"{judged.events['run.recovered']} runs whose owner died, "
            f"{judged.events['effect.late']} answers of owners that had lost their run",
            "audit": f"{judged.records} records, verified",
            "settled": f"{self.settled:.1f} s after the last fault",
        }
        lines = [f"  {name:<10} {text}" for name, text in rows.items()]
        return "\n".join([f"seed {self.seed}, {self.seconds:g} s: every promise was kept", *lines])


def _counts(counter: dict[str, int] | dict[int, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items(), key=str))


async def chaos(directory: Path, *, seed: int, seconds: float, rate: float = 2.0) -> Story:
    """``seconds`` of trouble by ``seed`` under ``rate`` new problems a second; raises for the first broken promise."""
    dice = random.Random(seed)
    async with fleet(directory) as it:
        # Long enough for a fault to meet an effect that is under way.
        it.outside.delay, it.outside.slow, it.outside.look = 0.7, 1.5, 0.2
        it.configure(RULES)
        await it.start()
        async with alertmanagers(it) as pair:
            return await _storm(it, pair, dice, seed=seed, seconds=seconds, rate=rate)


async def _storm(
    it: Fleet, pair: Sequence[Server], dice: random.Random, *, seed: int, seconds: float, rate: float
) -> Story:
    senders, trouble = Senders(it, random.Random(dice.random())), Trouble(it)
    prometheus = Prometheus(it.session, pair, random.Random(dice.random()))
    helpers = [
        *(asyncio.create_task(replica.keep_up()) for replica in it.replicas),
        asyncio.create_task(approvers(it, random.Random(dice.random()))),
    ]
    until = time.monotonic() + seconds
    try:
        async with asyncio.TaskGroup() as everything:
            everything.create_task(senders.begin(rate, until))
            everything.create_task(prometheus.begin(rate / 4, until))
            everything.create_task(trouble.run(schedule(seed, seconds)))
        ended = time.monotonic()
        await trouble.mend()
        await senders.done()
        await _everybody_knows(it, prometheus)
        await prometheus.end()
        await _settled(it)
        settled = time.monotonic() - ended
        await _all_well(it)
    finally:
        for helper in helpers:
            helper.cancel()
        told = await asyncio.gather(*helpers, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in told), told
    assert await it.stop() == [0, 0, 0], [replica.last_words() for replica in it.replicas]
    surprises = [each for replica in it.replicas for each in replica.surprises]
    assert not surprises, "\n".join(surprises)
    assert not bugs(it), bugs(it)[:3]
    bodies, problems, _ = admitted(it.door)
    judged = await judge(it, groups=senders.acknowledged, bodies=bodies, problems=senders.told | problems)
    return Story(
        seed=seed, seconds=seconds, trouble=trouble, senders=senders, fed=prometheus.count, door=it.door,
        judged=judged, effects=len(it.outside.effects), settled=settled,
    )  # fmt: skip


async def _everybody_knows(it: Fleet, prometheus: Prometheus) -> None:
    """What still fires gets through: Alertmanagers go on telling until somebody has accepted it."""
    deadline = time.monotonic() + _SETTLE
    while missing := prometheus.firing.keys() - admitted(it.door)[1]:
        assert time.monotonic() < deadline, f"Alertmanager could not deliver {sorted(missing)}"
        await prometheus.tell()
        await asyncio.sleep(0.5)


async def _settled(it: Fleet) -> None:
    """Wait until no run is under way."""
    deadline = time.monotonic() + _SETTLE
    while live := {state: count for state, count in (await it.states()).items() if state in LIVE}:
        told = await it.postgres.fetch(
            "SELECT rule, state, reason, message FROM remediator.run WHERE state = ANY($1::text[])", list(live)
        )
        assert time.monotonic() < deadline, [tuple(row) for row in told]
        await asyncio.sleep(0.3)


async def _all_well(it: Fleet) -> None:
    """Every replica is ready again, with every part of it, without anybody's help."""
    deadline = time.monotonic() + 20.0
    for replica in it.replicas:
        while True:
            status, parts = await replica.ask("GET", "/-/ready?verbose")
            if status == 200 and (parts["store"], parts["redis"], parts["audit"]) == ("ok", "ok", "ok"):
                break
            assert time.monotonic() < deadline, f"replica {replica.number}: {parts}"
            await asyncio.sleep(0.2)
