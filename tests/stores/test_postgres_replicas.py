"""Proves that several replicas on one PostgreSQL behave as one: nothing twice, nothing too much, nothing lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from remediator.arrival import Arrival
from remediator.audit import verify
from remediator.errors import Conflict, Lost, StoreUnavailable
from remediator.guard import Limit
from remediator.run import Lock, Run, State
from remediator.store import Claim, Licence, Pause, Refusal
from remediator.stores.postgres import PostgresStore
from tests.postgres import Postgres, postgres
from tests.stores.conformance.kit import T0, Bench, StoreClock, arrival, entry, outcome, ref, sighting
from tests.stores.ground import Ground, bench, ground

__all__ = ["bench", "ground", "postgres"]


async def _together(calls: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*map(outcome, calls)))


async def _whole(store: PostgresStore) -> None:
    """The audit of the store is one chain, and its head is what the head row says."""
    records = [record async for record in store.audit_stream()]
    answer = verify(records)
    assert answer.ok, answer.message
    assert (await store.counts()).audit_records == len(records)


async def _claims(ground: Ground, store: PostgresStore, count: int, rule: str = "rule-a") -> list[Claim]:
    """Runs of one rule on targets of their own, claimed by ``store``."""
    await store.intake(
        arrival(*(sighting(f"q{n}", rules=(ref(rule, Lock(f"t{n}", "", 1)),)) for n in range(count)))
    )
    return list(await store.claim("w1", 30, count))


# intake --------------------------------------------------------------------------------------------------------------


async def test_a_delivery_to_every_replica_at_once_opens_one_run(ground: Ground) -> None:
    """Four replicas get the same delivery at the same moment: each problem has one incident and one run."""
    replicas = await ground.replicas(4)
    for round_ in range(15):
        delivery = arrival(*(sighting(f"q{round_}-{n}", rules=(ref(), ref("rule-b"))) for n in range(8)))
        receipts = await asyncio.gather(*(store.intake(delivery) for store in replicas))
        assert sum(receipt.notices.get("new", 0) for receipt in receipts) == 8
        assert sum(len(receipt.runs) for receipt in receipts) == 16
        assert sum(receipt.notices.get("repeat", 0) for receipt in receipts) == 24
    assert len(await replicas[0].incidents(limit=1000)) == 120
    assert len(await replicas[0].runs(limit=1000)) == 240
    await _whole(replicas[0])


async def test_replicas_never_lock_each_other_out(ground: Ground) -> None:
    """Deliveries of many problems in any order, on four replicas: none fails, and a problem has one life at a time."""
    replicas = await ground.replicas(4)
    await ground.hold_time()
    dice = random.Random(11)

    def delivery() -> Arrival:
        names = dice.sample(range(30), 12)
        alerts = []
        for name in names:
            start = T0 + 1000 * dice.randrange(4)
            ends = start < T0 + 3000 and dice.random() < 0.4  # The last life of each goes on.
            end = start + 500 if ends else None
            alerts.append(sighting(f"q{name}", firing=not ends, start=start, end=end, rules=(ref(), ref("rule-b"))))
        dice.shuffle(alerts)
        return arrival(*alerts)._replace(sightings=tuple(alerts))

    answers = await _together([dice.choice(replicas).intake(delivery()) for _ in range(200)])
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    open_ = Counter(incident.key for incident in await replicas[0].incidents(open_only=True, limit=1000))
    assert max(open_.values()) == 1
    pairs = Counter((run.incident_id, run.rule) for run in await replicas[0].runs(limit=10_000))
    assert max(pairs.values()) == 1
    await _whole(replicas[0])


async def test_a_storm_needs_no_lock_for_each_problem(ground: Ground) -> None:
    """A delivery about more problems than the server has room for locks is committed, beside small ones of the same."""
    first, second = await ground.replicas(2, verb_timeout=20, command_timeout=20)
    storm = arrival(*(sighting(f"q{n}", rules=(ref(),)) for n in range(4000)))
    small = [arrival(sighting(f"q{n}", rules=(ref(),))) for n in range(0, 4000, 250)]
    calls = [first.intake(storm), *((first, second)[n % 2].intake(one) for n, one in enumerate(small))]
    receipts = await asyncio.gather(*calls)
    assert sum(receipt.notices.get("new", 0) for receipt in receipts) == 4000
    assert (await first.counts()).states == {"queued": 4000}


async def test_which_incident_is_newer_needs_no_clock_of_a_host(ground: Ground) -> None:
    """A replica whose identifiers sort before all others still sees the newest life of a problem first."""
    ahead, behind = await ground.replicas(2)  # Identifiers of the second replica sort after all of the first.
    await ground.hold_time()
    for number, store in enumerate((behind, ahead, behind, ahead)):
        start = T0 + 1000 * number
        await store.intake(arrival(sighting("a", start=start, rules=(ref(),))))
        receipt = await store.intake(arrival(sighting("a", firing=False, start=start, end=start + 100)))
        assert receipt.notices == {"closed": 1}
    # Older than the newest life, younger than the one whose identifier sorts last: it must not begin anything.
    again = await behind.intake(arrival(sighting("a", start=T0 + 2500, rules=(ref(),))))
    assert again.notices == {"stale": 1}
    for number in range(4, 30):
        start = T0 + 1000 * number
        await behind.intake(arrival(sighting("a", start=start, rules=(ref(),))))
        await behind.intake(arrival(sighting("a", firing=False, start=start, end=start + 100)))
    await ahead.intake(arrival(sighting("a", start=T0 + 40_000, rules=(ref(),))))
    end = await behind.intake(arrival(sighting("a", firing=False, start=T0 + 40_000, end=T0 + 40_100)))
    assert end.notices == {"closed": 1}


# claims --------------------------------------------------------------------------------------------------------------

WHOLE, WEB, DB, TWO = Lock("prod", "", 1), Lock("prod", "web", 1), Lock("prod", "db", 1), Lock("stage", "", 2)


def _overlaps(runs: list[Run]) -> list[tuple[str, str]]:
    """Pairs that may not run at the same time, as the locks say."""
    found = []
    for run in runs:
        for lock in run.locks:
            others = [o for o in runs if o.id != run.id and any(other.overlaps(lock) for other in o.locks)]
            if len(others) >= lock.most:
                found.append((run.id, others[0].id))
    return found


async def test_replicas_share_targets_without_meeting(ground: Ground) -> None:
    """Claimers on four replicas never run more on a target, or on a part of one, than it allows; and all get done."""
    replicas = await ground.replicas(4)
    watcher = await ground.replica()
    locks = [(WHOLE,), (WEB,), (DB,), (WEB, DB), (TWO,), (TWO,), (TWO, WEB)]
    dice = random.Random(5)
    await replicas[0].intake(
        arrival(*(sighting(f"q{n}", rules=(ref(f"rule-{n}", *dice.choice(locks)),)) for n in range(80)))
    )
    most = Counter[str]()

    async def claimer(number: int) -> None:
        store = replicas[number % 4]
        while (await watcher.counts()).states.get("succeeded", 0) < 80:
            for claim in await store.claim(f"w{number}", 30, 2):
                running = list(await watcher.runs(states=[State.RUNNING], limit=1000))
                assert not _overlaps(running)
                most["stage"] = max(most["stage"], sum(TWO in run.locks for run in running))
                moved = claim.run.move(State.SUCCEEDED, "done", "done", now=T0)
                await store.save(moved, entry(moved))

    async with asyncio.timeout(60):
        await asyncio.gather(*(claimer(number) for number in range(8)))
    assert most["stage"] == 2, "two were never allowed together, so nothing was tried"
    runs = await watcher.runs(limit=1000)
    assert {(run.epoch, run.state) for run in runs} == {(1, State.SUCCEEDED)}
    await _whole(watcher)


async def test_a_dead_replicas_runs_are_taken_over_by_the_databases_clock(ground: Ground) -> None:
    """Nobody takes a run while its lease lasts, whatever his own clock says; when it is over exactly one does."""
    late = StoreClock()
    late.at = T0 + 3600
    dead, other, wrong = await ground.replica(), await ground.replica(), await ground.replica(clock=late)
    await ground.hold_time()
    runs = [claim.run for claim in await _claims(ground, dead, 10)]
    ground.clock.pass_(29)
    assert not [*await other.claim("w2", 30, 100), *await wrong.claim("w3", 30, 100)]
    ground.clock.pass_(1)
    taken = await asyncio.gather(other.claim("w2", 30, 100), wrong.claim("w3", 30, 100))
    assert sorted(claim.run.id for claims in taken for claim in claims) == sorted(run.id for run in runs)
    assert {claim.run.lease_until for claims in taken for claim in claims} == {T0 + 60}
    assert await dead.renew(runs, 30) == {run.id for run in runs}
    with pytest.raises(Lost):
        await dead.save(runs[0].move(State.SUCCEEDED, "done", "done", now=T0))


async def test_a_host_whose_clock_is_wrong_waits_as_long_as_the_others(ground: Ground) -> None:
    """Each host is told when to look for work as its own clock will show it: none sleeps too long or spins."""
    right = await ground.replica()
    await ground.hold_time()
    await ground.bench(right).fires("a", ref(wait=20.0))
    assert await right.next_due() == T0 + 20
    for wrong in (-3600.0, 5.0):
        clock = StoreClock()
        clock.at = T0 + wrong
        assert await (await ground.replica(clock=clock)).next_due() == T0 + wrong + 20


# licences ------------------------------------------------------------------------------------------------------------


async def test_a_limit_is_exact_across_replicas(ground: Ground) -> None:
    """Sixteen claimers on four replicas try 640 times at a limit of 40: exactly 40 licences, each with its intent."""
    replicas = await ground.replicas(4)
    benches = [ground.bench(store) for store in replicas]
    claims = await _claims(ground, replicas[0], 160)
    limits = [
        Limit(guard="rate_limit", scope="rule", runs=40, window=3600),
        Limit(guard="rate_limit", scope="global", runs=100, window=60),
    ]
    dice = random.Random(3)
    runs = {claim.run.id: claim.run for claim in claims}
    granted = list[str]()

    async def claimer(number: int) -> None:
        for _ in range(40):
            claim = dice.choice(claims)
            if claim.run.id in granted:
                continue
            bench = benches[number % 4]
            answer = await outcome(bench.store.licence(bench.request(claim, limits=dice.sample(limits, 2))))
            if isinstance(answer, Licence):
                granted.append(answer.run.id)
            else:
                assert isinstance(answer, Refusal | Lost), answer

    await asyncio.gather(*(claimer(number) for number in range(16)))
    rows = await ground.fetch("SELECT count(*), count(DISTINCT run_id) FROM {s}.effect")
    assert (tuple(rows[0]), len(granted)) == ((40, 40), 40)
    assert set(granted) <= set(runs)
    intents = await ground.fetch("SELECT count(*) FROM {s}.audit WHERE event = 'effect.intent'")
    assert intents[0][0] == 40
    await _whole(replicas[0])


async def test_no_replica_gives_a_licence_after_a_pause(ground: Ground) -> None:
    """The kill switch is thrown while three replicas give licences: in the chain no intent stands behind it."""
    replicas = await ground.replicas(3)
    benches = [ground.bench(store) for store in replicas]
    claims = await _claims(ground, replicas[0], 120)

    answers = list[Licence | Refusal]()

    async def licences(bench: Bench, mine: list[Claim]) -> None:
        for claim in mine:
            answers.append(await bench.store.licence(bench.request(claim)))

    async def throw() -> None:
        while len(answers) < 15:
            await asyncio.sleep(0)
        await replicas[2].pause(Pause("global", "stop", "user:ann", 0.0, None))

    await asyncio.gather(*(licences(bench, claims[number::6]) for number, bench in enumerate(benches * 2)), throw())
    events = [record.event async for record in replicas[0].audit_stream()]
    assert "effect.intent" not in events[events.index("pause.engaged") :]
    given = sum(isinstance(answer, Licence) for answer in answers)
    assert 15 <= given == events.count("effect.intent") < 120
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {"paused"}


async def test_an_end_and_a_wait_cannot_miss_each_other(ground: Ground) -> None:
    """An alert ends on one replica while another puts its run on hold: the run is cancelled or due at once."""
    first, second = await ground.replicas(2)
    await ground.hold_time()
    claims = await _claims(ground, first, 40)

    async def hold(claim: Claim) -> None:
        moved = claim.run.move(State.HELD, "window", "waits", now=T0, wake_at=T0 + 9999)
        await first.save(moved, entry(moved))

    async def end(number: int) -> None:
        await second.intake(arrival(sighting(f"q{number}", firing=False, start=T0, end=T0 + 1)))

    numbers = {claim.run.locks[0].target: int(claim.run.locks[0].target[1:]) for claim in claims}
    calls = [hold(claim) for claim in claims] + [end(numbers[claim.run.locks[0].target]) for claim in claims]
    await asyncio.gather(*calls)
    asleep = [run for run in await first.runs(states=[State.HELD], limit=100) if run.wake_at > T0]
    assert not asleep


# people --------------------------------------------------------------------------------------------------------------


async def test_twenty_votes_on_four_replicas_grant_once(ground: Ground) -> None:
    """Twenty people answer at once, some twice, on all replicas: the third yes grants, and it is acted on once."""
    replicas = await ground.replicas(4)
    await ground.hold_time()
    bench = ground.bench(replicas[0])
    run = await bench.asked(await bench.running(), needed=3)
    voters = [f"user:{number % 17}" for number in range(20)]
    answers = await _together(
        [replicas[n % 4].vote(run.id, "what was shown", voter, True, "yes") for n, voter in enumerate(voters)]
    )
    assert sum(isinstance(answer, Run) for answer in answers) == 3
    assert {type(answer) for answer in answers} == {Run, Conflict}
    approval = await replicas[1].approval(run.id)
    assert approval is not None and approval.state == "granted" and len(approval.votes) == 3
    assert (await replicas[1].run(run.id)).reason == "approved"
    assert (await bench.events(run.id)).count("approval.granted") == 3
    taken = await _together([r.claim(f"w{n}", 30, 9) for n, r in enumerate(replicas)])
    (claim,) = [claim for claims in taken for claim in claims]
    digest = approval.changes[0]["digest"]
    tries = await _together([r.licence(bench.request(claim, approval=digest)) for r in replicas])
    assert sum(isinstance(each, Licence) for each in tries) == 1
    assert all(isinstance(each, Licence | Lost) for each in tries)
    assert len(await replicas[0].effects(run.id)) == 1


# wakes ---------------------------------------------------------------------------------------------------------------


class _Heard:
    """Counts wake-ups and lets a test wait for the next one."""

    def __init__(self, store: PostgresStore) -> None:
        self.event = asyncio.Event()
        store.on_wake(self.event.set)

    async def after(self, call: Any) -> float:
        """Seconds from the answer of ``call`` until the wake-up; negative if it came before the answer."""
        loop = asyncio.get_running_loop()
        self.event.clear()
        heard = asyncio.ensure_future(self.event.wait())
        at = list[float]()
        heard.add_done_callback(lambda _: at.append(loop.time()))
        await call
        answered = loop.time()
        async with asyncio.timeout(5):
            await heard
        await asyncio.sleep(0)
        return at[0] - answered


async def _listens(ground: Ground) -> None:
    """Return once every replica listens."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remediator listen' AND query LIKE 'LISTEN%'"
    )
    async with asyncio.timeout(10):
        while (await ground.fetch(query))[0][0] < len(ground.stores):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)


async def test_every_replica_is_woken(ground: Ground) -> None:
    """What one replica makes due (a delivery, a yes, a cancelled run, a resumed rule) the other hears within 100 ms."""
    one, other = await ground.replicas(2)
    await ground.hold_time()
    heard, bench = _Heard(other), ground.bench(one)
    await _listens(ground)
    delays = [await heard.after(bench.fires(f"q{number}", ref(f"rule-{number}"))) for number in range(10)]
    assert sorted(delays)[5] < 0.1, f"seconds: {delays}"
    claims = await bench.claim(most=2)
    held = await bench.asked(claims[0])
    assert await heard.after(one.vote(held.id, "what was shown", "user:ann", True, "")) < 1
    await one.pause(Pause("global", "", "user:ann", 0.0, None))
    assert await heard.after(one.resume("global", "user:ann", "")) < 1
    assert await heard.after(one.cancel((await bench.moved(claims[1].run, State.HELD)).id, "user:ann", "")) < 1


async def test_what_starts_nothing_wakes_nobody(ground: Ground) -> None:
    """Repeats are the mass of all deliveries, so they cost no replica a look."""
    one, other = await ground.replicas(2)
    heard, bench = _Heard(other), ground.bench(one)
    await _listens(ground)
    await heard.after(bench.fires())
    heard.event.clear()
    await bench.fires(start=bench.started["a"])
    await asyncio.sleep(0.2)
    assert not heard.event.is_set()


async def test_a_lost_listener_comes_back(ground: Ground) -> None:
    """Ending the session that listens costs a moment: it is replaced, and says at once that something may be due."""
    one, other = await ground.replicas(2)
    heard = _Heard(other)
    await _listens(ground)
    heard.event.clear()
    await ground.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remediator listen'"
    )
    async with asyncio.timeout(5):
        await heard.event.wait()
    await _listens(ground)
    assert await heard.after(ground.bench(one).fires()) < 1


# a replica that stops ------------------------------------------------------------------------------------------------


async def test_a_frozen_replica_cannot_hold_the_others(ground: Ground) -> None:
    """A process that stops in the middle of a transaction loses its session, and the others go on within seconds."""
    store = await ground.replica(idle_timeout=0.5)
    frozen = await ground.replica(idle_timeout=0.5, verb_timeout=60)
    stopped, awake = asyncio.Event(), asyncio.Event()

    async def stops(transaction: Any) -> None:
        await transaction.one("SELECT 1 FROM audit_head FOR UPDATE")
        stopped.set()
        await awake.wait()

    task = asyncio.create_task(outcome(frozen._write(stops)))
    await stopped.wait()
    before = asyncio.get_running_loop().time()
    await ground.bench(store).fires()
    assert 0.2 < asyncio.get_running_loop().time() - before < 3
    awake.set()
    assert isinstance(await task, StoreUnavailable)
    await frozen.ping()


async def test_a_deadlock_is_begun_anew(ground: Ground, postgres: Postgres) -> None:
    """When the server ends a transaction for a deadlock, the same verb is tried again and its caller never knows."""
    store = await ground.replica()
    bench = ground.bench(store)
    receipt = await bench.fires()
    other = await store._address.connection("another client")
    try:
        # The one who waits longer than its own deadlock_timeout looks for a cycle: the store, after one second.
        await other.execute("SET deadlock_timeout = '30s'; SET statement_timeout = '30s'; BEGIN")
        await other.execute("SELECT 1 FROM audit_head FOR UPDATE")
        verb = asyncio.create_task(store.cancel(receipt.runs[0], "user:ann", "no"))
        while not await ground.fetch("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.02)
        await other.execute("SELECT 1 FROM run FOR UPDATE")
        await other.execute("COMMIT")
        assert (await verb).state is State.CANCELLED
    finally:
        await other.close()
    log = await asyncio.to_thread(postgres.log_tail, 200)
    assert "deadlock detected" in log
    assert (await bench.events(receipt.runs[0])) == ["run.queued", "run.cancelled"]


async def test_a_caller_that_gives_up_leaves_nothing_behind(ground: Ground) -> None:
    """Verbs that are cancelled half way keep no connection and no lock."""
    complaints = list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    store = await ground.replica(pool_size=4)
    bench = ground.bench(store)
    receipts = [await bench.fires(f"q{n}", ref(f"rule-{n}")) for n in range(40)]
    for round_ in range(5):
        tasks = [asyncio.create_task(store.cancel(r.runs[0], "user:ann", "")) for r in receipts[round_ * 8 :][:8]]
        await asyncio.sleep(0.004 * round_)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5):
        await asyncio.gather(*(store.ping() for _ in range(8)))
        await bench.fires("last", ref("rule-last"))
    await _whole(store)
    states = Counter(run.state for run in await store.runs(limit=100))
    assert set(states) <= {State.QUEUED, State.CANCELLED}
    # A connection that was still being made when its caller left is mentioned as well, and may be.
    assert not [text for text in complaints if "active transaction" in text], "the pool got back what was not done"
