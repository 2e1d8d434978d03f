"""Proves that what a replica keeps in memory of incidents never makes it say what the database would not say."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import asyncpg
import pytest

from remediator.action import canonical_json
from remediator.audit import Entry, around, seal
from remediator.stores._postgres_intake import keys_of
from remediator.stores._postgres_known import Known, Read
from remediator.stores._postgres_session import lock_id
from remediator.stores.sqlite import SqliteStore
from tests.postgres import postgres
from tests.stores.conformance.kit import T0, Bench, CountingIds, StoreClock, arrival, ref, sighting
from tests.stores.ground import Ground, ground

__all__ = ["ground", "postgres"]


async def test_replicas_tell_what_a_store_without_memory_tells(ground: Ground) -> None:
    """600 firings, repeats and ends, told to either of two replicas: each means what it means to one that reads all."""
    replicas = await ground.replicas(2)
    await ground.hold_time()
    model = SqliteStore(":memory:", clock=ground.clock, ids=CountingIds())
    await model.open()
    try:
        dice = random.Random(5)
        starts: dict[tuple[str, str], float] = {}
        told: list[tuple[Mapping[str, int], Mapping[str, int]]] = []
        for _ in range(600):
            ground.clock.pass_(dice.choice((0, 0, 0, 1, 5, 30, 300)))
            name, key = dice.choice("abcd"), dice.choice(("", "e" * 64))
            if (name, key) not in starts or dice.random() < 0.1:
                starts[name, key] = ground.clock.at
            ends = dice.random() < 0.2
            one = sighting(
                name, firing=not ends, start=starts[name, key], end=ground.clock.at if ends else None, key=key,
                rules=(ref(),),
            )  # fmt: skip
            model._known.forget()
            answers = await dice.choice(replicas).intake(arrival(one)), await model.intake(arrival(one))
            told.append((answers[0].notices, answers[1].notices))
        assert [ours for ours, _ in told] == [theirs for _, theirs in told]
        kinds = {notice for ours, _ in told for notice in ours}
        assert kinds == {"new", "joined", "repeat", "stale", "resolved", "closed"}
    finally:
        await model.close()


async def test_a_repeat_waits_for_nobody_who_settles_its_problem(ground: Ground) -> None:
    """What a replica knows to be told already is kept while the lock of its problem is held by somebody else."""
    store = await ground.replica(verb_timeout=3.0)
    delivery = arrival(sighting("a", rules=(ref(),)))
    assert (await store.intake(delivery)).notices == {"new": 1}
    assert (await store.intake(delivery)).notices == {"repeat": 1}  # Read, and known from here on.
    (key,) = keys_of([delivery])
    other = await asyncpg.connect(ground.server.url())
    try:
        await other.execute(f"SELECT pg_advisory_lock({lock_id(ground.schema, 'problem', key)})")
        assert (await store.intake(delivery)).notices == {"repeat": 1}
    finally:
        await other.close()
    (row,) = await ground.fetch("SELECT count(*) FROM {s}.delivery")
    assert row[0] == 3


@pytest.mark.parametrize("change", ["an end", "an end of one of two", "a later life", "another read"])
async def test_what_another_replica_changed_is_seen(ground: Ground, change: str) -> None:
    """However an incident that one replica knows was changed by another one, the next notice means what it must."""
    first, second = await ground.replicas(2)
    await ground.hold_time()
    key = "e" * 64
    a, b = sighting("a", key=key, rules=(ref(),)), sighting("b", key=key, rules=(ref(),))
    ended = {name: sighting(name, firing=False, end=T0 + 5, key=key, rules=(ref(),)) for name in "ab"}
    await first.intake(arrival(a, b))
    assert (await first.intake(arrival(a, b))).notices == {"repeat": 2}
    assert (await first.intake(arrival(a, b))).notices == {"repeat": 2}
    ground.clock.pass_(5)
    if change == "an end":
        assert (await second.intake(arrival(ended["a"], ended["b"]))).notices == {"resolved": 1, "closed": 1}
        assert (await first.intake(arrival(a, b))).notices == {"stale": 2}
    elif change == "an end of one of two":
        assert (await second.intake(arrival(ended["b"]))).notices == {"resolved": 1}
        assert (await first.intake(arrival(a, b))).notices == {"repeat": 1, "stale": 1}
    elif change == "a later life":
        again = sighting("a", start=T0 + 100, key=key, rules=(ref(),))
        await second.intake(arrival(ended["a"], ended["b"]))
        assert (await second.intake(arrival(again))).notices == {"new": 1}
        assert (await first.intake(arrival(a, b))).notices == {"stale": 2}
    else:
        ground.clock.pass_(5)  # Ten seconds after it was seen, that is written down again.
        for store in (first, second, first):
            assert (await store.intake(arrival(a, b))).notices == {"repeat": 2}
            (incident,) = await store.incidents()
            assert incident.seen_at == T0 + 10


async def test_what_a_database_seals_is_what_this_program_seals(ground: Ground) -> None:
    """A record's body is canonical JSON to the letter and its digest ours, for whole seconds and any text."""
    store = await ground.replica()
    await ground.hold_time()
    texts = ["", 'quotes " and \\', "ümläut 💰\u2028", "control \x01\x1f", "NUL \0 here", "%s {} $1 ','"]
    entries = [
        Entry(event="run.moved", actor=f"user:{text}".replace("\0", ""), detail={"text": text, "n": [1, 0.5, None]})
        for text in texts
    ]
    await store.append(*entries)
    for at in (T0 + 1e-6, T0 + 0.1, T0 + 2.123456, T0 + 3):
        ground.clock.at = at
        await store.append(*entries, *entries)
    records = [record async for record in store.audit_stream()]
    assert len(records) == 9 * len(entries)
    for number, record in enumerate(records):
        sealed, _ = seal(entries[number % len(entries)], number + 1, record.at, bytes.fromhex(record.previous))
        assert record == sealed
        assert canonical_json(json.loads(record.body)) == record.body
    assert [record.at for record in records[-1::-12]] == [T0 + 3, T0 + 2.123456, T0 + 0.1, T0 + 1e-6, T0]


def test_both_halves_make_the_whole() -> None:
    """What stands around time and number completes to the very body that is sealed here."""
    entry = Entry(event="e", actor='a"', detail={"z": 1, "sequence": 2}, run_id="r", rule="u", rule_digest="d")
    before, rest = around(entry)
    record, _ = seal(entry, 17, 1.5, bytes(32))
    assert f"{before}1.5{rest}17}}" == record.body


async def test_memory_has_a_bound() -> None:
    """However many problems there are, a replica remembers some thousands, the newest, and none that is very large."""
    store = SqliteStore(":memory:", clock=StoreClock(), ids=CountingIds())
    await store.open()
    try:
        bench = Bench(store, StoreClock(), CountingIds())
        await bench.fires("a")
        (one,) = await store.incidents()
    finally:
        await store.close()
    known = Known()
    for number in range(5000):
        known.keep(Read(type(one)(f"{number}", f"key {number}", {}, one.members, T0, T0), 1))
    assert known.of(["key 4999", "key 2952"]) is not None
    assert known.of(["key 4999", "key 2951"]) is None
    many = {str(number): member for number in range(33) for member in one.members.values()}
    known.keep(Read(type(one)("x", "large", {}, many, T0, T0), 1))
    assert known.of(["large"]) is None
    known.forget(["key 4999", "nothing"])
    assert known.of(["key 4999"]) is None
