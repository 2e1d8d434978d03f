"""Reads one value of a probe's evidence by its path, such as ``probes.workers.desired``, or says why it is unknown."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator

from remediator.guard import GuardContext

_PATH = re.compile(r"probes\.([A-Za-z_][A-Za-z0-9_]{0,62})((?:\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,4}\])+)")
_SEGMENT = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")


class Unknown(Exception):
    """The value is not known, and why."""


def _path(text: str) -> str:
    if _PATH.fullmatch(text) is None:
        raise ValueError(f'"{text}" leads to no evidence; write a path such as probes.workers.desired')
    return text


Path = Annotated[str, AfterValidator(_path)]
"""A path into the evidence of one probe."""


def probe_of(path: str) -> str:
    """The id of the probe that a path reads."""
    return path.split(".")[1].partition("[")[0]


def value(context: GuardContext, path: str) -> Any:
    """What stands at ``path``. Raises Unknown."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise Unknown(f'"{path}" leads to no evidence')
    seen = context.evidence.get(found[1])
    if seen is None:
        raise Unknown(f'there is no probe "{found[1]}"')
    if not seen.get("ok"):
        raise Unknown(f'probe "{found[1]}" saw nothing: {seen.get("error") or "no reason given"}')
    at: Any = seen.get("value")
    for name, index in _SEGMENT.findall(found[2]):
        try:
            at = at[name] if name else at[int(index)]
        except (KeyError, IndexError, TypeError):
            raise Unknown(f"{path} is not in what the probe saw") from None
    return at


def number(context: GuardContext, path: str) -> float:
    """The number at ``path``. Raises Unknown, also for what is no finite number."""
    found = value(context, path)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise Unknown(f"{path} is no number")
    return float(found)


def count(context: GuardContext, path: str) -> int:
    """The whole number at ``path``, not below 0. Raises Unknown."""
    found = number(context, path)
    if found < 0 or found != int(found):
        raise Unknown(f"{path} is {found:g}, which is no number of things")
    return int(found)
