"""Follows the audit for those who watch: what was committed becomes live events, in order and without gaps.

The audit is one list of everything that happened, the same for every replica. So nothing has to be remembered or passed
on between processes: whoever broke off goes on at the number of the record that was seen last.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from remediator.audit import AuditRecord
from remediator.clock import format_instant
from remediator.errors import StoreUnavailable
from remediator.log import logger
from remediator.run import State
from remediator.store import Store
from remediator.web.answers import Refused

_log = logger("web")
_NEWEST = 1 << 62
_PAGE = 500
_GAP = 0.02
"""Seconds in which what is committed meanwhile is read at once."""
_QUEUE = 1000
"""How many events a client may be behind; then it is let go, and comes back for the rest."""
MISSED = 10_000
"""How many records are looked through for a client that comes back; one that missed more must look anew."""


class LiveEvent(NamedTuple):
    """One thing that happened. ``id`` is the sequence of its audit record; ``run`` and ``rule`` are "" for none.

    ``kind`` is ``run``, ``delivery``, ``pause`` or ``rules``.
    """

    id: int
    kind: str
    run: str
    rule: str
    data: Mapping[str, Any]


class Watcher:
    """One client: the events that wait for it, all of them after the record ``after``."""

    def __init__(self, after: int) -> None:
        self.after = after
        self._queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue()

    def offer(self, event: LiveEvent | None) -> bool:
        """Add an event, or None for the end; False when too many wait, and then there is nothing but the end."""
        if event is None or self._queue.qsize() >= _QUEUE:
            self._queue = asyncio.Queue() if self._queue.qsize() else self._queue
            self._queue.put_nowait(None)
            return False
        self._queue.put_nowait(event)
        return True

    async def next(self) -> LiveEvent | None:
        """The next event; None once the stream has ended."""
        return await self._queue.get()


class Live:
    """Reads the audit once for all watchers, every ``poll`` seconds and whenever it is nudged; never without watchers.

    At most ``most`` may watch at a time.
    """

    def __init__(self, store: Store, *, poll: float = 0.25, most: int = 100) -> None:
        self._store = store
        self._poll = poll
        self._most = most
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._at = 0
        self._something = asyncio.Event()
        self._alone = asyncio.Lock()
        self._ended = False

    def nudge(self) -> None:
        """Something was committed."""
        self._something.set()

    async def join(self) -> Watcher:
        """A watcher of what is committed from now on. Raises Refused, StoreUnavailable."""
        async with self._alone:
            if self._ended:
                raise Refused(503, "unavailable", "the service is stopping", headers={"Retry-After": "1"})
            if len(self._watchers) >= self._most:
                raise Refused(503, "unavailable", f"{self._most} clients watch already", headers={"Retry-After": "30"})
            if self._task is None or self._task.done():
                newest = await self._store.audit(before=_NEWEST, limit=1)
                self._at = newest[0].sequence if newest else 0
                self._task = asyncio.create_task(self._follow(), name="live")
            watcher = Watcher(self._at)
            self._watchers.add(watcher)
            return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher; the last one ends the reading."""
        self._watchers.discard(watcher)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task = None

    def end(self) -> None:
        """End every stream, and let no new one begin: the service drains."""
        self._ended = True
        self._end_all()

    async def missed(self, after: int, watcher: Watcher) -> AsyncIterator[LiveEvent]:
        """What was committed after the record ``after`` and before ``watcher`` joined. Raises StoreUnavailable."""
        while after < watcher.after:
            records = await self._store.audit(after=after, limit=_PAGE)
            for record in records:
                event = live_event(record) if record.sequence <= watcher.after else None
                if event is not None:
                    yield event
            if not records:
                return
            after = records[-1].sequence

    def _end_all(self) -> None:
        for watcher in self._watchers:
            watcher.offer(None)

    async def _follow(self) -> None:
        try:
            while True:
                self._something.clear()
                if await self._read() < _PAGE:
                    await self._wait()
        except Exception as error:  # noqa: BLE001 - clients come back and the next reading begins anew
            _log.error("a bug ended the live events", exc_info=error)
            self._end_all()

    async def _read(self) -> int:
        try:
            records = await self._store.audit(after=self._at, limit=_PAGE)
        except StoreUnavailable:
            return 0  # Streams stay open; what is committed later is found later.
        for record in records:
            self._at = record.sequence
            event = live_event(record)
            if event is not None:
                # Who is too slow is forgotten here; its handler finds the end in the queue.
                self._watchers -= {watcher for watcher in self._watchers if not watcher.offer(event)}
        return len(records)

    async def _wait(self) -> None:
        await asyncio.sleep(_GAP)
        try:
            async with asyncio.timeout(self._poll):
                await self._something.wait()
        except TimeoutError:
            pass


def live_event(record: AuditRecord) -> LiveEvent | None:
    """What a record tells those who watch; None for log-ins, exports and whatever else moves nothing."""
    kind = "run" if record.run_id else record.event.partition(".")[0]
    tell = _TOLD.get(kind)
    if tell is None:
        return None
    common = {"event": record.event, "actor": record.actor, "at": format_instant(record.at)}
    data = tell(record.event, json.loads(record.body)["detail"])
    if kind == "run":
        data = {"id": record.run_id, "rule": record.rule, **data}
    return LiveEvent(record.sequence, kind, record.run_id, record.rule, {**data, **common})


_MOVES = {
    "run.queued": ("queued", "matched"),
    "run.retry_requested": ("queued", "retried"),
    "run.started": ("running", "started"),
    "run.resumed": ("running", "resumed"),
    "run.recovered": ("running", "recovered"),
    "effect.intent": ("running", "acting"),
    "approval.requested": ("held", "approval"),
    "approval.granted": ("held", "approved"),
    "approval.rejected": ("denied", "rejected"),
} | {f"run.{state.value}": (state.value, "") for state in State if state is not State.QUEUED}
"""State and reason of a run after a record that does not say them itself."""


def _run(event: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    state, reason = _MOVES.get(event, (None, ""))
    if event == "approval.granted" and detail["granted"] < detail["needed"]:
        reason = "approval"
    return {"state": state, "reason": detail.get("reason", reason), "message": detail.get("message", "")}


def _delivery(_event: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": detail["delivery"], **{key: detail[key] for key in ("receiver", "alerts", "notices", "runs")}}


def _pause(event: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    until = detail.get("until")
    return {
        "scope": detail["scope"],
        "engaged": event == "pause.engaged",
        "reason": detail["reason"],
        "until": format_instant(until) if until is not None else None,
    }


def _rules(event: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    known = ("rules", "digest", "added", "removed", "edited", "error")
    return {"loaded": event == "rules.loaded", **{key: detail[key] for key in known if key in detail}}


_TOLD = {"run": _run, "delivery": _delivery, "pause": _pause, "rules": _rules}
