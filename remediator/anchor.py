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


class Walk:
    """Verifies a chain piece by piece, and compares it with an anchor on the way."""

    def __init__(self, anchor: Anchor | None = None) -> None:
        self._anchor = anchor
        self._found = Verification(True, 0, GENESIS.hex(), 0, "")

    def add(self, records: Sequence[AuditRecord]) -> bool:
        """Verify what follows; False once something is wrong, and nothing more need be added."""
        before = self._found
        if not before.ok:
            return False
        found = verify(records, first=before.records + 1, previous=bytes.fromhex(before.head))
        self._found = found._replace(records=before.records + found.records)
        anchor = self._anchor
        if found.ok and anchor is not None and before.records < anchor.records <= self._found.records:
            digest = records[anchor.records - before.records - 1].digest
            if digest != anchor.head:
                message = f"the chain was rewritten: record {anchor.records} is not the one that the anchor names"
                self._found = self._found._replace(ok=False, at=anchor.records, message=message)
        return self._found.ok

    def result(self) -> Verification:
        """The answer for everything that was added."""
        found, anchor = self._found, self._anchor
        if not found.ok:
            return found
        if anchor is not None and found.records < anchor.records:
            missing = anchor.records - found.records
            message = f"the chain was cut: the anchor names {anchor.records} records, {missing} are missing at the end"
            return found._replace(ok=False, at=found.records + 1, message=message)
        fits = "" if anchor is None else f", and fits the anchor of {anchor.records}"
        return found._replace(message=f"{found.records} records, the chain is whole{fits}")
