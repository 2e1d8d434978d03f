"""What was kept elsewhere about the audit chain, and whether the chain still fits it.

A chain cannot show that its newest records were cut off or that all of it was rewritten. Whoever keeps the number of
records and the digest of the last one in another place (a ticket, a log, another team) can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from remediator.audit import GENESIS, AuditRecord, Verification, verify
from remediator.clock import format_instant
from remediator.errors import InputError


class Anchor(NamedTuple):
    """The chain as it was once: so many records, the last with digest ``head`` (hex)."""

    records: int
    head: str


def make_anchor(records: object, head: object) -> Anchor:
    """An anchor of two values from outside. Raises InputError."""
    if type(records) is not int or records < 0:
        raise InputError('an anchor has "records", a whole number')
    if type(head) is not str or not re.fullmatch(r"[0-9a-f]{64}", head):
        raise InputError('an anchor has "head", 64 letters of hexadecimal')
    if records == 0 and head != GENESIS.hex():
        raise InputError("an anchor of no records has a head of 64 zeros")
    return Anchor(records, head)


def read_anchor(text: str) -> Anchor:
    """The anchor in what ``audit verify -o json`` printed: a JSON object with ``records`` and ``head``.

    Raises InputError.
    """
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if type(data) is not dict:
        raise InputError("an anchor is a JSON object, as `remediator audit verify -o json` prints it")
    return make_anchor(data.get("records"), data.get("head"))


class _Removal(NamedTuple):
    """What the ``storage.pruned`` record of a removal says, and when it was written."""

    last: int
    head: str
    at: float


def _removal(record: AuditRecord) -> _Removal | None:
    try:
        told = json.loads(record.body)["detail"]["audit"]
        return _Removal(told["last"], told["head"], record.at)
    except (ValueError, KeyError, TypeError):
        return None


class Walk:
    """Verifies a chain piece by piece, and compares it with an anchor on the way.

    A chain whose oldest records are missing is whole only if one of its own records says that retention removed exactly
    those: the record of the newest removal is always among what is left, and cannot be forged without the digests.
    """

    def __init__(self, anchor: Anchor | None = None) -> None:
        self._anchor = anchor
        self._found = Verification(True, 0, GENESIS.hex(), 0, "")
        self._start = Anchor(0, GENESIS.hex())
        self._removal: _Removal | None = None

    def add(self, records: Sequence[AuditRecord]) -> bool:
        """Verify what follows; False once something is wrong, and nothing more need be added."""
        if records and self._found.ok and not self._found.records:
            self._begin(records[0])
        before = self._found
        if not before.ok:
            return False
        found = verify(records, first=before.records + 1, previous=bytes.fromhex(before.head))
        self._found = found._replace(records=before.records + found.records, removed=before.removed)
        self._removal = next((told for told in map(self._told, records) if told is not None), self._removal)
        anchor = self._anchor
        if found.ok and anchor is not None and before.records < anchor.records <= self._found.records:
            self._compare(anchor, records[anchor.records - before.records - 1].digest)
        return self._found.ok

    def _begin(self, first: AuditRecord) -> None:
        if first.sequence <= 1 or not re.fullmatch(r"[0-9a-f]{64}", first.previous):
            return  # ``verify`` says what is wrong with a chain that begins so.
        self._start = Anchor(first.sequence - 1, first.previous)
        self._found = Verification(True, *self._start, 0, "", self._start.records)
        if self._anchor is not None and self._anchor.records == self._start.records:
            self._compare(self._anchor, first.previous)

    def _compare(self, anchor: Anchor, digest: str) -> None:
        if digest != anchor.head:
            message = f"the chain was rewritten: record {anchor.records} is not the one that the anchor names"
            self._found = self._found._replace(ok=False, at=anchor.records, message=message)

    def _told(self, record: AuditRecord) -> _Removal | None:
        told = _removal(record) if self._start.records and record.event == "storage.pruned" else None
        return told if told is not None and told[:2] == self._start else None

    def result(self) -> Verification:
        """The answer for everything that was added."""
        found, anchor, start = self._found, self._anchor, self._start.records
        if not found.ok:
            return found
        if anchor is not None and found.records < anchor.records:
            missing = anchor.records - found.records
            message = f"the chain was cut: the anchor names {anchor.records} records, {missing} are missing at the end"
            return found._replace(ok=False, at=found.records + 1, message=message)
        if start and self._removal is None:
            message = f"records 1 to {start} are missing, and no record says that they were removed"
            return found._replace(ok=False, at=1, message=message)
        if anchor is not None and 0 < anchor.records < start:
            message = (
                f"the anchor names record {anchor.records}, which was removed with all up to {start}: "
                "compare with a newer anchor"
            )
            return found._replace(ok=False, at=anchor.records, message=message)
        fits = "" if anchor is None else f", and fits the anchor of {anchor.records}"
        if self._removal is None:
            return found._replace(message=f"{found.records} records, the chain is whole{fits}")
        when = format_instant(self._removal.at).partition(".")[0] + "Z"
        removed = f"records 1 to {start} were removed on {when}"
        return found._replace(message=f"{removed}; the chain is whole from {start + 1} to {found.records}{fits}")
