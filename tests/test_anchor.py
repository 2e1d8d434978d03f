"""Proves that an anchor kept elsewhere finds a chain that was cut or rewritten, wherever the pieces are cut."""

from __future__ import annotations

import itertools
import json

import pytest

from remediator.anchor import Anchor, Walk, make_anchor, read_anchor
from remediator.audit import GENESIS, AuditRecord, Entry, seal
from remediator.errors import InputError


def _chain(count: int, salt: str = "") -> list[AuditRecord]:
    head, records = GENESIS, []
    for number in range(1, count + 1):
        record, head = seal(Entry(event="x", actor="y", detail={"salt": salt}), number, float(number), head)
        records.append(record)
    return records


def _walk(records: list[AuditRecord], size: int, anchor: Anchor | None = None) -> Walk:
    walk = Walk(anchor)
    for start in range(0, len(records), size):
        if not walk.add(records[start : start + size]):
            break
    return walk


@pytest.mark.parametrize(("size", "at"), list(itertools.product([1, 2, 3, 7, 100], [0, 1, 3, 6, 7])))
def test_a_chain_that_grew_fits_every_anchor_of_its_past(size: int, at: int) -> None:
    """However the chain is read, an anchor of any earlier moment fits, and the whole is verified."""
    chain = _chain(7)
    anchor = Anchor(at, chain[at - 1].digest if at else GENESIS.hex())
    found = _walk(chain, size, anchor).result()
    assert (found.ok, found.records, found.head) == (True, 7, chain[-1].digest)
    assert f"anchor of {at}" in found.message


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_cut_chain_is_found(size: int) -> None:
    """A chain that has fewer records than the anchor is told with the number of those that are missing."""
    chain = _chain(7)
    found = _walk(chain[:5], size, Anchor(7, chain[-1].digest)).result()
    assert (found.ok, found.records, found.at) == (False, 5, 6)
    assert "2 are missing" in found.message


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_rewritten_chain_is_found(size: int) -> None:
    """A chain that is whole in itself but not the one that was kept is told."""
    found = _walk(_chain(9, "forged"), size, Anchor(7, _chain(7)[-1].digest)).result()
    assert (found.ok, found.at) == (False, 7)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_broken_record_is_found_whatever_follows(size: int) -> None:
    """After a record that is wrong nothing makes the chain right again."""
    chain = _chain(7)
    chain[3] = chain[3]._replace(actor="somebody")
    walk = _walk(chain, size)
    assert not walk.add(chain[4:])
    assert (walk.result().ok, walk.result().at, walk.result().records) == (False, 4, 3)


def test_nothing_is_a_whole_chain_unless_something_was_kept() -> None:
    """An empty chain is whole, and with an anchor it is a chain that was cut to nothing."""
    assert Walk().result().ok
    assert not Walk(Anchor(1, "a" * 64)).result().ok


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"records": 1}', '{"records": true, "head": "x"}', "[" * 100])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    """A file that holds something else is an error, never an anchor that everything fits."""
    with pytest.raises(InputError):
        read_anchor(text)


@pytest.mark.parametrize(
    ("records", "head"), [(-1, "a" * 64), (1, "a" * 63), (1, "A" * 64), (0, "a" * 64), (1.0, "a" * 64)]
)
def test_values_that_make_no_anchor_are_refused(records: object, head: object) -> None:
    """A negative number, a short or odd digest, and a digest of nothing are refused."""
    with pytest.raises(InputError):
        make_anchor(records, head)


def test_what_verify_prints_is_an_anchor() -> None:
    """The JSON of a verification can be kept and given back as it is."""
    found = _walk(_chain(3), 2).result()
    assert read_anchor(json.dumps(found._asdict())) == Anchor(3, found.head)


def _pruned(removed: int, **told: object) -> list[AuditRecord]:
    """A chain of nine records of which retention has removed the first ones, with the record of that removal."""
    head, records = GENESIS, list[AuditRecord]()
    for number in range(1, 10):
        entry = Entry(event="x", actor="y")
        if number == 8:
            audit = {"first": 1, "last": removed, "head": records[removed - 1].digest, **told}
            entry = Entry(event="storage.pruned", actor="y", detail={"audit": audit})
        record, head = seal(entry, number, 1.7e9 + number, head)
        records.append(record)
    return records


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_pruned_chain_is_whole_from_where_it_begins(size: int) -> None:
    """What retention removed is told with its numbers and its day, and the rest is verified up to the end."""
    chain = _pruned(3)
    found = _walk(chain[3:], size).result()
    assert (found.ok, found.records, found.head, found.removed) == (True, 9, chain[-1].digest, 3)
    assert found.message == "records 1 to 3 were removed on 2023-11-14T22:13:28Z; the chain is whole from 4 to 9"


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("left", "why"), [(4, "other numbers"), (2, "other numbers"), (8, "the record is gone")])
def test_a_chain_whose_beginning_was_cut_is_found(size: int, left: int, why: str) -> None:
    """Whoever deletes the oldest records by hand leaves no record that says so: the chain is not whole."""
    found = _walk(_pruned(3)[left:], size).result()
    assert (found.ok, found.at) == (False, 1), why
    assert f"records 1 to {left} are missing, and no record says that they were removed" in found.message


@pytest.mark.parametrize("told", [{"head": "a" * 64}, {"last": 2}, {"last": "3"}, {"head": None}])
def test_a_record_of_another_removal_proves_nothing(told: dict[str, object]) -> None:
    """The record of the removal must name the very digest that the first record that is left follows."""
    assert not _walk(_pruned(3, **told)[3:], 2).result().ok


@pytest.mark.parametrize("size", [1, 2, 100])
def test_anchors_of_a_pruned_chain(size: int) -> None:
    """An anchor at or after the removal is compared as ever; one that cannot be compared any more proves nothing."""
    chain = _pruned(3)

    def fits(records: int, head: str) -> bool:
        return _walk(chain[3:], size, Anchor(records, head)).result().ok

    assert fits(0, GENESIS.hex()) and fits(3, chain[2].digest) and fits(4, chain[3].digest) and fits(9, chain[8].digest)
    assert not fits(3, "a" * 64) and not fits(9, "a" * 64) and not fits(10, "a" * 64)
    old = _walk(chain[3:], size, Anchor(2, chain[1].digest)).result()
    assert (old.ok, old.at) == (False, 2)
    assert "compare with a newer anchor" in old.message
    assert read_anchor(json.dumps(_walk(chain[3:], size).result()._asdict())) == Anchor(9, chain[8].digest)


@pytest.mark.parametrize("previous", ["", "A" * 64, "a" * 63, "x" * 64])
def test_a_beginning_that_follows_nothing_is_found(previous: str) -> None:
    """A first record whose predecessor is no digest is the beginning of no chain."""
    chain = _pruned(3)
    found = _walk([chain[3]._replace(previous=previous), *chain[4:]], 3).result()
    assert (found.ok, found.message) == (False, "record 1 is missing: record 4 follows")
