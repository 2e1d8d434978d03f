"""The incidents that were told lately, kept in memory beside the file, so that a repeat need not read them again.

Sound because one process at a time has the file, one thread writes it, and only intake writes incidents. What was kept
during a commit that failed is forgotten as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from remediator.incident import Incident

_KEYS = 2048
_MEMBERS = 32
"""Histories with more alerts than this are read each time: memory has a bound, whatever rules group."""


class Known:
    """Histories of incidents (newest first) by key, as the transaction under way sees them; bounded."""

    def __init__(self) -> None:
        self._histories: dict[str, tuple[Incident, ...]] = {}

    def take(self, keys: Collection[str]) -> tuple[dict[str, list[Incident]], list[str]]:
        """The histories that are known, free to be changed, and the keys of those that must be read."""
        known = self._histories
        found = {key: [*known[key]] for key in keys if key in known}
        return found, [key for key in keys if key not in found]

    def keep(self, histories: Mapping[str, Collection[Incident]]) -> None:
        """Remember ``histories`` as they were just written; the oldest make room."""
        for key, history in histories.items():
            if sum(len(incident.members) for incident in history) <= _MEMBERS:
                self._histories[key] = tuple(history)
            else:
                self._histories.pop(key, None)
        while len(self._histories) > _KEYS:
            del self._histories[next(iter(self._histories))]

    def forget(self) -> None:
        """Know nothing: what the file holds must be read again."""
        self._histories.clear()
