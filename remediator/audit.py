"""The chained record: what an entry is, how it is hashed, and how a chain is verified, with or without a store.

Design: leaf = SHA-256(0x00 ‖ body), digest = SHA-256(0x01 ‖ previous ‖ leaf), the domain separation of RFC 6962
section 2.1. ``body`` is canonical JSON that includes the sequence number, the time and the actor, so that a record
cannot be moved, re-dated or re-attributed without breaking every digest after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from remediator.action import canonical_json

GENESIS = bytes(32)
"""What the first record names as its previous digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Something to be recorded; a store gives it its sequence, its time and its place in the chain.

    ``event`` is a stable dotted word (``run.denied``), ``actor`` who did it (``remediator``, ``alertmanager:<source>``,
    ``user:<name>``). ``detail`` is JSON without secrets.
    """

    event: str
    actor: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    rule: str = ""
    rule_digest: str = ""


class AuditRecord(NamedTuple):
    """One record of the chain, as stored. ``body`` is the canonical JSON that ``digest`` covers."""

    sequence: int
    at: float
    event: str
    actor: str
    run_id: str
    rule: str
    body: str
    previous: str
    digest: str


def seal(entry: Entry, sequence: int, at: float, previous: bytes) -> tuple[AuditRecord, bytes]:
    """The record of ``entry`` as number ``sequence`` after ``previous``, and its digest as bytes."""
    body = canonical_json(
        {
            "actor": entry.actor,
            "at": at,
            "detail": entry.detail,
            "event": entry.event,
            "rule": entry.rule,
            "rule_digest": entry.rule_digest,
            "run_id": entry.run_id,
            "sequence": sequence,
        }
    )
    digest = chain(previous, body)
    record = AuditRecord(
        sequence, at, entry.event, entry.actor, entry.run_id, entry.rule, body, previous.hex(), digest.hex()
    )
    return record, digest


def around(entry: Entry) -> tuple[str, str]:
    """The body of ``entry`` before its time and from there to its number, for a store that seals where the chain lies.

    Time, number and a closing brace complete it to what ``seal`` makes.
    """
    rest = canonical_json(
        {
            "detail": entry.detail,
            "event": entry.event,
            "rule": entry.rule,
            "rule_digest": entry.rule_digest,
            "run_id": entry.run_id,
            "sequence": 0,
        }
    )
    return f'{{"actor":{canonical_json(entry.actor)},"at":', f",{rest[1:-2]}"


def chain(previous: bytes, body: str) -> bytes:
    """The digest of a record with ``body`` after the record with digest ``previous``."""
    leaf = hashlib.sha256(b"\x00" + body.encode()).digest()
    return hashlib.sha256(b"\x01" + previous + leaf).digest()


class Verification(NamedTuple):
    """The answer of ``verify``. ``at`` is the sequence of the first record that is wrong, or 0.

    ``records`` is the length of the chain with the oldest ``removed`` ones, which retention took and which are not
    verified any more (anchor.py tells whether they were); so ``records`` and ``head`` always make an anchor.
    """

    ok: bool
    records: int
    head: str
    at: int
    message: str
    removed: int = 0


def verify(records: Iterable[AuditRecord], *, first: int = 1, previous: bytes = GENESIS) -> Verification:
    """Recompute the chain over ``records`` in order and compare.

    Finds a record that was changed, removed from the middle, inserted or reordered. It cannot find that the newest
    records were cut off or that everything was rewritten: compare ``records`` and ``head`` with a copy kept elsewhere
    (``--anchor``).
    """
    expected, count = first, 0
    for record in records:
        wrong = _wrong(record, expected, previous)
        if wrong:
            return Verification(False, count, previous.hex(), record.sequence, wrong)
        previous = bytes.fromhex(record.digest)
        expected += 1
        count += 1
    return Verification(True, count, previous.hex(), 0, f"{count} records, the chain is whole")


def _wrong(record: AuditRecord, expected: int, previous: bytes) -> str:
    if record.sequence != expected:
        return f"record {expected} is missing: record {record.sequence} follows"
    if record.previous != previous.hex():
        return f"record {record.sequence} does not follow record {expected - 1}"
    try:
        digest = chain(previous, record.body).hex()
    except UnicodeEncodeError:
        digest = ""  # An exported record can spell what no record was ever made of.
    if digest != record.digest:
        return f"record {record.sequence} was changed: its digest does not fit its body"
    try:
        body = json.loads(record.body)
    except ValueError:
        body = None
    if type(body) is not dict:
        return f"record {record.sequence} has a body that is not a JSON object"
    told = tuple(body.get(name) for name in ("sequence", "at", "event", "actor", "run_id", "rule"))
    if told != (record.sequence, record.at, record.event, record.actor, record.run_id, record.rule):
        return f"record {record.sequence} has columns that differ from its body"
    return ""
