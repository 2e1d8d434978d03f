"""The open incidents that were told lately, each with the version of its row, so that a repeat need not be read again.

It decides nothing: another replica may have changed a row, so the database compares versions before it keeps a repeat.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from remediator.incident import Incident

_KEYS = 2048
_MEMBERS = 32
"""Incidents with more alerts than this are read each time: memory has a bound, whatever rules group."""


class Read(NamedTuple):
    """An incident as it was read. ``version`` is the transaction that wrote its row (xmin)."""

    incident: Incident
    version: int


class Known:
    """The newest incident of each key, if it is open; bounded."""

    def __init__(self) -> None:
        self._read: dict[str, Read] = {}

    def of(self, keys: Collection[str]) -> dict[str, Read] | None:
        """What is known of all ``keys``; None unless every one of them is known."""
        known = self._read
        found = {key: known[key] for key in keys if key in known}
        return found if len(found) == len(keys) else None

    def keep(self, read: Read) -> None:
        """Remember an incident; the oldest make room."""
        if len(read.incident.members) <= _MEMBERS:
            self._read[read.incident.key] = read
            if len(self._read) > _KEYS:
                del self._read[next(iter(self._read))]

    def forget(self, keys: Collection[str]) -> None:
        """What was known of ``keys`` is not so any more."""
        for key in keys:
            self._read.pop(key, None)
