"""Proves what the chain can show: every change, gap, swap, insertion and new date in it is found, and at its place."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.action import canonical_json
from remediator.audit import GENESIS, AuditRecord, Entry, chain, seal, verify

T0 = 1_700_000_000.0


def _chain(count: int, first: int = 1, previous: bytes = GENESIS) -> list[AuditRecord]:
    records = []
    for number in range(first, first + count):
        entry = Entry(
            event="run.denied",
            actor="remediator",
            detail={"why": f"no. {number}", "text": "数 🙂", "at": 0.1 + number},
            run_id=f"run-{number}",
            rule="rule-a",
            rule_digest="d",
        )
        record, previous = seal(entry, number, T0 + number, previous)
        records.append(record)
    return records


def test_a_whole_chain_is_whole() -> None:
    """An untouched chain verifies, counts its records, and ends in the digest of the last one."""
    records = _chain(50)
    answer = verify(records)
    assert (answer.ok, answer.records, answer.at) == (True, 50, 0)
    assert answer.head == records[-1].digest
    empty = verify([])
    assert (empty.ok, empty.records, empty.head) == (True, 0, GENESIS.hex())


def test_the_digest_is_as_documented() -> None:
    """Another program can recompute the chain from the description: RFC 6962's domain separation over the body."""
    one, two = _chain(2)
    leaf = hashlib.sha256(b"\x00" + two.body.encode()).digest()
    assert hashlib.sha256(b"\x01" + bytes.fromhex(one.digest) + leaf).hexdigest() == two.digest
    assert one.previous == "00" * 32


def test_the_body_says_everything() -> None:
    """What the digest covers holds the number, the time and the actor, as canonical JSON."""
    record = _chain(1)[0]
    body = json.loads(record.body)
    assert record.body == canonical_json(body)
    assert body == {
        "actor": "remediator", "at": T0 + 1, "detail": {"at": 1.1, "text": "数 🙂", "why": "no. 1"},
        "event": "run.denied", "rule": "rule-a", "rule_digest": "d", "run_id": "run-1", "sequence": 1,
    }  # fmt: skip


COLUMNS: dict[str, Any] = {
    "sequence": 99,
    "at": 1.0,
    "event": "run.succeeded",
    "actor": "user:mallory",
    "run_id": "run-0",
    "rule": "rule-b",
    "body": '{"a":1}',
    "previous": "11" * 32,
    "digest": "11" * 32,
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("at", [1, 10, 20])
def test_a_change_of_any_column_is_found(column: str, at: int) -> None:
    """No column of a record can be changed alone, in the first, in the last or in any record between."""
    records = _chain(20)
    records[at - 1] = records[at - 1]._replace(**{column: COLUMNS[column]})
    answer = verify(records)
    assert not answer.ok and answer.records == at - 1
    assert answer.at == (99 if column == "sequence" else at)


@given(st.integers(0, 19), st.data())
def test_a_flip_of_any_bit_of_a_body_is_found(index: int, data: st.DataObject) -> None:
    """Whatever single letter of a body is replaced, the chain breaks at that record."""
    records = _chain(20)
    body = records[index].body
    at = data.draw(st.integers(0, len(body) - 1))
    other = chr(ord(body[at]) ^ (1 << data.draw(st.integers(0, 6))))
    records[index] = records[index]._replace(body=body[:at] + other + body[at + 1 :])
    answer = verify(records)
    assert (answer.ok, answer.at) == (False, index + 1)


def _resealed(record: AuditRecord, **changes: Any) -> AuditRecord:
    """A record changed by somebody who also makes its own digest anew."""
    body = canonical_json(json.loads(record.body) | changes)
    digest = chain(bytes.fromhex(record.previous), body).hex()
    return record._replace(**{k: v for k, v in changes.items() if k in AuditRecord._fields}, body=body, digest=digest)


TAMPERINGS: dict[str, tuple[Callable[[list[AuditRecord]], Sequence[AuditRecord]], int]] = {
    "one is deleted": (lambda r: r[:4] + r[5:], 6),
    "the first is deleted": (lambda r: r[1:], 2),
    "several are deleted": (lambda r: r[:4] + r[8:], 9),
    "two are swapped": (lambda r: [*r[:4], r[5], r[4], *r[6:]], 6),
    "one is doubled": (lambda r: [*r[:5], r[4], *r[5:]], 5),
    "one is inserted": (lambda r: [*r[:5], _chain(1, 6, bytes.fromhex(r[4].digest))[0], *r[5:]], 6),
    "one is re-dated and sealed again": (lambda r: [*r[:4], _resealed(r[4], at=T0), *r[5:]], 6),
    "one is said of another actor and sealed again": (lambda r: [*r[:4], _resealed(r[4], actor="x"), *r[5:]], 6),
    "one is renumbered and sealed again": (lambda r: [*r[:4], _resealed(r[4], sequence=6), *r[5:]], 6),
    "the whole is turned round": (lambda r: r[::-1], 20),
}


@pytest.mark.parametrize("case", TAMPERINGS)
def test_tampering_is_found_at_its_place(case: str) -> None:
    """Deleting, swapping, doubling, inserting and re-dating are found, and the answer says where to look."""
    tamper, at = TAMPERINGS[case]
    answer = verify(tamper(_chain(20)))
    assert (answer.ok, answer.at) == (False, at), answer.message
    assert str(at) in answer.message


def test_what_the_chain_alone_cannot_show_a_copy_of_its_head_does() -> None:
    """A cut tail and a rewritten history verify by themselves; a head that was kept elsewhere gives both away."""
    records = _chain(20)
    anchor = verify(records)
    cut = verify(records[:15])
    assert cut.ok and (cut.records, cut.head) != (anchor.records, anchor.head)
    head, rewritten = GENESIS, []
    for record in records:
        body = json.loads(record.body)
        again, head = seal(Entry(event=body["event"], actor="mallory"), record.sequence, record.at, head)
        rewritten.append(again)
    forged = verify(rewritten)
    assert forged.ok and forged.records == anchor.records and forged.head != anchor.head


def test_a_part_of_a_chain_is_verified_from_its_anchor() -> None:
    """Whoever kept the head after record 10 can verify the records that follow without the ones before."""
    records = _chain(20)
    kept = bytes.fromhex(records[9].digest)
    assert verify(records[10:], first=11, previous=kept).ok
    assert not verify(records[10:], first=11, previous=GENESIS).ok
    assert not verify(records[11:], first=11, previous=kept).ok


@pytest.mark.parametrize("body", ["not json", "[]", "null", "7", '"text"', "\ud800", '{"actor":"\ud800"}', "{}"])
def test_a_forged_body_is_an_answer_and_no_crash(body: str) -> None:
    """A file that somebody made up is judged like any other, with a sentence and not with a traceback."""
    record = _chain(1)[0]._replace(body=body)
    assert not verify([record]).ok
    if "\ud800" not in body:
        sealed = record._replace(digest=chain(GENESIS, body).hex())
        answer = verify([sealed])
        assert (answer.ok, answer.at) == (False, 1)


@pytest.mark.parametrize("digest", ["", "zz", "é" * 64, "AA" * 32])
def test_a_forged_digest_is_an_answer_and_no_crash(digest: str) -> None:
    """The same for digests that are none."""
    records = _chain(3)
    records[1] = records[1]._replace(digest=digest)
    assert (verify(records).ok, verify(records).at) == (False, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"bytes"])
def test_what_is_no_json_is_never_sealed(value: Any) -> None:
    """A record holds only what every reader of JSON reads alike."""
    with pytest.raises((ValueError, TypeError)):
        seal(Entry(event="x", actor="y", detail={"value": value}), 1, T0, GENESIS)


def test_a_long_chain_is_verified_in_seconds() -> None:
    """A hundred thousand records are verified in a time that an operator waits for."""
    records = _chain(100_000)
    started = time.process_time()
    assert verify(records).records == 100_000
    assert time.process_time() - started < 30
