"""Lines of logs as evidence: bounded, and counted by a pattern."""

from __future__ import annotations

from collections import deque
from typing import Any

import re2

_LONGEST = 500
_KEPT = 50
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # RE2 would write to standard error.


def check_pattern(pattern: str | None) -> str | None:
    """``pattern``, if it is valid RE2. Raises ValueError."""
    if pattern is not None:
        try:
            re2.compile(pattern, _OPTIONS)
        except re2.error as error:
            raise ValueError(f"the pattern is not valid RE2: {error}") from None
    return pattern


class Lines:
    """Looks at the last ``most`` lines of every text, counts those that match, and keeps the last few of them.

    Without a pattern every line counts as a match.
    """

    def __init__(self, pattern: str | None, most: int) -> None:
        self._pattern = None if pattern is None else re2.compile(pattern, _OPTIONS)
        self._most = most
        self._seen = 0
        self._matches = 0
        self._kept: deque[str] = deque(maxlen=_KEPT)

    def add(self, text: str) -> None:
        """The next text."""
        for line in text.replace("\x00", "\ufffd").splitlines()[-self._most :]:
            self._seen += 1
            if self._pattern is None or self._pattern.search(line):
                self._matches += 1
                self._kept.append(line[:_LONGEST])

    def evidence(self) -> dict[str, Any]:
        """``seen`` and ``matches`` as numbers, ``lines``: the last matching ones, each cut at 500 characters."""
        return {"seen": self._seen, "matches": self._matches, "lines": list(self._kept)}
