"""The embedded store: one SQLite file, one process, WAL with synchronous=FULL, one writer, one thread for reading.

Sources: sqlite.org/wal.html (WAL does not work on network file systems), sqlite.org/pragma.html#pragma_synchronous
(NORMAL may lose acknowledged commits on power loss, so it is FULL here).
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from remediator.arrival import Arrival, Receipt
from remediator.audit import AuditRecord, Entry
from remediator.clock import Clock
from remediator.errors import NotFound, StoreUnavailable
from remediator.facts import Announced, GuardState, OpenedRun, PastChange, PastRun
from remediator.guard import Limit
from remediator.ids import Ids
from remediator.incident import HISTORY, Incident
from remediator.ledger import Transfer
from remediator.run import Found, Kind, Run, State
from remediator.store import (
    Approval,
    Claim,
    Counts,
    EffectRow,
    Licence,
    LicenceRequest,
    Pause,
    Pruned,
    Refusal,
    Tally,
)
from remediator.stores import (
    _sqlite_facts,
    _sqlite_file,
    _sqlite_intake,
    _sqlite_money,
    _sqlite_people,
    _sqlite_retention,
    _sqlite_runs,
    _tally,
)
from remediator.stores._gather import Gatherer
from remediator.stores._rows import (
    AUDIT,
    EFFECT,
    INCIDENT,
    RUN,
    read_audit,
    read_effect,
    read_incident,
    read_run,
)
from remediator.stores._sqlite_known import Known
from remediator.stores._sqlite_writer import Transaction, Writer

R = TypeVar("R")
_CLOCK_SLACK = 1.0
_BATCH = 256
"""Alerts in one transaction, a delivery with more of them apart."""
_FEW = 10_000
"""As many rows of an index are counted faster than a thread is asked to."""


class SqliteStore:
    """``Store`` on one SQLite file, or on ``:memory:`` for tests.

    ``inline`` executes everything in the caller's thread, which makes it deterministic under virtual time.
    ``tolerance`` is how far apart, in seconds, two starts of one life may lie (D1: at least twice the
    evaluation interval of the alerting rules). Without ``migrate`` a file whose schema is not up to date is refused.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        ids: Ids,
        tolerance: float = 60.0,
        inline: bool = False,
        migrate: bool = True,
    ) -> None:
        self._path = path
        self._migrate = migrate
        self._clock = clock
        self._ids = ids
        self._tolerance = tolerance
        self._inline = inline or path == _sqlite_file.MEMORY
        self._lock_file: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._peeker: sqlite3.Connection | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._gatherer = Gatherer(self._commit_arrivals, most=_BATCH)
        self._known = Known()
        self._backlog = 0
        self._pauses: list[Pause] | None = None

    # life ------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Lock the file, open it, migrate, and free the runs of the process that held it before.

        Raises StoreError, and then holds nothing.
        """
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        if self._path != _sqlite_file.MEMORY:
            self._lock_file = _sqlite_file.take(self._path)
        connection = self._connection = _sqlite_file.connect(self._path)
        _sqlite_file.migrate(connection, self._path, self._clock.now(), apply=self._migrate)
        memory = self._path == _sqlite_file.MEMORY
        self._reader = connection if memory else _sqlite_file.connect(self._path, readonly=True)
        self._peeker = connection if memory else _sqlite_file.connect(self._path, readonly=True)
        if not self._inline:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
        self._writer = Writer(connection, self._clock, inline=self._inline, abandoned=self._known.forget)
        self._writer.start()
        # The file's lock is ours, so every earlier owner is dead and no lease has to be waited for.
        await self._write(_sqlite_runs.free_all)

    async def close(self) -> None:
        """Finish what was submitted, close the file and give it free."""
        writer, pool, connections = self._writer, self._pool, (self._reader, self._peeker, self._connection)
        # From here on every verb says that the store is not open, while what was submitted is still being finished.
        self._writer = self._pool = self._reader = self._peeker = self._connection = self._pauses = None
        if writer is not None:
            await writer.stop()
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        for connection in connections:
            if connection is not None:
                connection.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def ping(self) -> None:
        """Commit a row that was made and removed: what changes nothing would not reach the disk, and prove nothing."""

        def operation(transaction: Transaction) -> None:
            transaction.run("INSERT INTO pause VALUES ('', '', '', 0, 0)")
            transaction.run("DELETE FROM pause WHERE scope = ''")

        await self._write(operation)

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Nothing: the file's lock is ours, so there is no other process that could make something due."""

    async def _write(self, operation: Callable[[Transaction], R], *, long: bool = False) -> R:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        return await self._writer.submit(operation, long=long)

    async def _act(self, operation: Callable[[Transaction], R], *, long: bool = False) -> R:
        # Leases and windows are measured with this clock; while it lags behind what was committed, nothing acts.
        behind = self._writer.behind() if self._writer is not None else 0.0
        if behind > _CLOCK_SLACK:
            raise StoreUnavailable(f"the host's clock went back by {behind:.1f} s; nothing acts until it has caught up")
        return await self._write(operation, long=long)

    async def _read(self, operation: Callable[[sqlite3.Connection], R]) -> R:
        reader = self._reader
        if reader is None:
            raise StoreUnavailable("the store is not open")
        try:
            if self._pool is None:
                return operation(reader)
            return await asyncio.get_running_loop().run_in_executor(self._pool, operation, reader)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from None

    def _peek(self, operation: Callable[[sqlite3.Connection], R]) -> R:
        """Read what one look into an index answers: less work than a thread is to be asked."""
        if self._peeker is None:
            raise StoreUnavailable("the store is not open")
        try:
            return operation(self._peeker)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from None

    # intake ----------------------------------------------------------------------------------------------------------

    async def intake(self, arrival: Arrival) -> Receipt:
        """Commit one delivery; deliveries that wait at the same time share the commit."""
        if self._inline:
            return (await self._write(lambda t: self._take_in(t, [arrival])))[0]
        return await self._gatherer.submit(arrival)

    async def _commit_arrivals(self, arrivals: Sequence[Arrival]) -> list[Receipt]:
        return await self._write(lambda t: self._take_in(t, arrivals))

    def _take_in(self, transaction: Transaction, arrivals: Sequence[Arrival]) -> list[Receipt]:
        return _sqlite_intake.intake(transaction, arrivals, self._known, self._ids, self._tolerance)

    async def remember(self, rules: Mapping[str, str], *entries: Entry) -> None:
        """Keep rule bodies by digest."""

        def operation(transaction: Transaction) -> None:
            transaction.run(
                "INSERT OR IGNORE INTO rule_version SELECT key, value, ? FROM json_each(?)",
                transaction.now,
                json.dumps(dict(rules)),
            )
            transaction.record(*entries)

        await self._write(operation, long=True)

    async def rule_body(self, digest: str) -> str:
        """The body kept under ``digest``. Raises NotFound."""
        row = await self._read(
            lambda c: c.execute("SELECT body FROM rule_version WHERE digest = ?", (digest,)).fetchone()
        )
        if row is None:
            raise NotFound(f"no rule with digest {digest}")
        return str(row[0])

    # runs ------------------------------------------------------------------------------------------------------------

    async def claim(self, owner: str, lease: float, most: int) -> Sequence[Claim]:
        """Take due runs. Raises StoreUnavailable while the host's clock is behind."""
        return await self._act(lambda transaction: _sqlite_runs.claim(transaction, owner, lease, most))

    async def renew(self, runs: Sequence[Run], lease: float) -> Collection[str]:
        """Lengthen leases; the ids of runs that are no longer ours."""
        return await self._act(lambda transaction: _sqlite_runs.renew(transaction, runs, lease))

    async def save(self, run: Run, *entries: Entry, follow: Sequence[Run] = ()) -> Run:
        """Write a moved run with its entries. Raises Lost."""
        return await self._write(lambda transaction: _sqlite_runs.save(transaction, run, entries, follow))

    async def licence(self, request: LicenceRequest) -> Licence | Refusal:
        """The licence transaction. Raises Lost."""
        return await self._act(lambda transaction: _sqlite_runs.licence(transaction, request, self._ids))

    async def conclude(
        self,
        run: Run,
        effect_id: str,
        state: str,
        outcome: Mapping[str, Any],
        *entries: Entry,
        follow: Sequence[Run] = (),
    ) -> Run:
        """Write an outcome and the run's next state. Raises Lost."""
        return await self._write(
            lambda transaction: _sqlite_runs.conclude(transaction, run, effect_id, state, outcome, entries, follow)
        )

    async def late(self, effect_id: str, state: str, outcome: Mapping[str, Any], entry: Entry) -> None:
        """Append evidence of an owner that lost its run."""
        await self._write(lambda transaction: _sqlite_runs.late(transaction, effect_id, state, outcome, entry))

    async def within(
        self, limits: Sequence[Limit], run: Run, incident_key: str, targets: Sequence[str]
    ) -> Refusal | None:
        """Whether the limits would allow a licence now."""
        now = self._clock.now()

        def operation(connection: sqlite3.Connection) -> Refusal | None:
            for target in targets or ("",):
                refusal = _sqlite_runs.over(connection, limits, run, incident_key, target, now)
                if refusal is not None:
                    return refusal
            return None

        return await self._read(operation)

    async def next_due(self) -> float | None:
        """When the next run that nobody holds becomes due."""
        row = self._peek(
            lambda c: c.execute(
                "SELECT min(wake_at) FROM run INDEXED BY run_due"
                " WHERE state IN ('queued','held','verifying') AND lease_until = 0"
            ).fetchone()
        )
        return None if row is None or row[0] is None else float(row[0])

    async def run(self, run_id: str) -> Run:
        """One run, or the newest for ``@latest``. Raises NotFound."""
        latest = run_id == "@latest"
        newest = "kind = 'remedy' ORDER BY id DESC LIMIT 1"
        where, values = (newest, ()) if latest else ("id = ?", (run_id,))
        row = await self._read(lambda c: c.execute(f"SELECT {RUN} FROM run WHERE {where}", values).fetchone())  # noqa: S608
        if row is None:
            raise NotFound(f'there is no run "{run_id}"')
        return read_run(row)

    async def runs(
        self,
        *,
        states: Sequence[State] = (),
        rule: str = "",
        incident: str = "",
        before: str = "",
        limit: int = 100,
        kinds: Sequence[Kind] = (Kind.REMEDY,),
        about: str = "",
    ) -> Sequence[Run]:
        """Runs, newest first."""
        where = [f"kind IN ({','.join('?' * len(kinds))})", "substr(about, 1, ?) = ?"]
        values: list[Any] = [*(kind.value for kind in kinds), len(about), about]
        if states:
            where.append(f"state IN ({','.join('?' * len(states))})")
            values += [state.value for state in states]
        for column, value in (("rule", rule), ("incident_id", incident)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if before:
            where.append("id < ?")
            values.append(before)
        sql = f"SELECT {RUN} FROM run WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"  # noqa: S608
        rows = await self._read(lambda c: c.execute(sql, (*values, limit)).fetchall())
        return [read_run(row) for row in rows]

    async def effects(self, run_id: str) -> Sequence[EffectRow]:
        """The licences of a run, oldest first."""
        sql = f"SELECT {EFFECT} FROM effect WHERE run_id = ? ORDER BY licensed_at, id"  # noqa: S608
        rows = await self._read(lambda c: c.execute(sql, (run_id,)).fetchall())
        return [read_effect(row) for row in rows]

    async def incident(self, incident_id: str) -> Incident:
        """One incident. Raises NotFound."""
        found = await self.incidents_of((incident_id,))
        if incident_id not in found:
            raise NotFound(f'there is no incident "{incident_id}"')
        return found[incident_id]

    async def incidents(self, *, open_only: bool = False, before: str = "", limit: int = 100) -> Sequence[Incident]:
        """Incidents, newest first."""
        where = "ended_at IS NULL" if open_only else "1"
        sql = f"SELECT {INCIDENT} FROM incident WHERE {where} AND id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608
        rows = await self._read(lambda c: c.execute(sql, (before or "~", limit)).fetchall())
        return [read_incident(row) for row in rows]

    async def latest(self, key: str) -> Incident | None:
        """The newest life of a problem, or None."""
        # Identifiers come from hosts, whose clocks may be wrong; the open life is the newest, or the last to end.
        sql = (
            f"SELECT {INCIDENT} FROM incident WHERE id IN"  # noqa: S608
            " (SELECT id FROM incident WHERE key = ? ORDER BY id DESC LIMIT ?)"
            " ORDER BY ended_at IS NOT NULL, ended_at DESC, id DESC LIMIT 1"
        )
        row = await self._read(lambda c: c.execute(sql, (key, HISTORY)).fetchone())
        return None if row is None else read_incident(row)

    async def incidents_of(self, ids: Collection[str]) -> Mapping[str, Incident]:
        """Incidents by id."""
        sql = f"SELECT {INCIDENT} FROM incident WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
        rows = await self._read(lambda c: c.execute(sql, (json.dumps(sorted(ids)),)).fetchall())
        return {row[0]: read_incident(row) for row in rows}

    async def tally(self, rule: str) -> Tally:
        """What became of the newest runs of a rule."""
        sql = (
            f"WITH mine AS (SELECT id FROM (SELECT id, rule FROM run INDEXED BY run_created WHERE kind = 'remedy'"  # noqa: S608
            " ORDER BY created_at DESC LIMIT ?) WHERE rule = ? LIMIT ?)"
            f" SELECT {_tally.COLUMNS} FROM mine CROSS JOIN run AS r ON r.id = mine.id"
            " JOIN incident AS i ON i.id = r.incident_id"
        )
        rows = await self._read(lambda c: c.execute(sql, (_tally.LOOKED, rule, _tally.RUNS)).fetchall())
        return _tally.tally(rows)

    # people ----------------------------------------------------------------------------------------------------------

    async def ask(self, run: Run, approval: Approval, *entries: Entry, follow: Sequence[Run] = ()) -> Run:
        """Hold a run and ask people. Raises Lost."""
        return await self._write(lambda transaction: _sqlite_people.ask(transaction, run, approval, entries, follow))

    async def approval(self, run_id: str) -> Approval | None:
        """The newest question of a run, or None."""
        return self._peek(lambda c: _sqlite_people.newest_approval(c, run_id))

    async def vote(self, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
        """A person's answer. Raises NotFound, Conflict."""
        return await self._write(lambda t: _sqlite_people.vote(t, run_id, digest, actor, yes, comment))

    async def cancel(self, run_id: str, actor: str, comment: str, found: Found | None = None) -> Run:
        """A person cancels what has not begun, or says what became of an effect. Raises NotFound, Conflict."""
        return await self._write(lambda t: _sqlite_people.cancel(t, run_id, actor, comment, found))

    async def acknowledge(self, run_id: str, actor: str, comment: str) -> Run:
        """A person takes over; nobody else is called. Raises NotFound, Conflict."""
        return await self._write(lambda t: _sqlite_people.acknowledge(t, run_id, actor, comment))

    async def retry(self, run_id: str, actor: str, comment: str) -> Run:
        """Try once more what ended and changed nothing. Raises NotFound, Conflict."""
        return await self._write(lambda t: _sqlite_people.retry(t, run_id, actor, comment))

    async def hasten(self, run_id: str, actor: str, comment: str) -> Run:
        """Have a temporary change go back now. Raises NotFound, Conflict."""
        return await self._write(lambda t: _sqlite_people.hasten(t, run_id, actor, comment))

    async def pause(self, pause: Pause) -> None:
        """Engage or replace a pause."""
        self._pauses = await self._write(lambda t: _sqlite_people.pause(t, pause))

    async def resume(self, scope: str, actor: str, comment: str) -> None:
        """Release a pause. Raises NotFound."""
        self._pauses = await self._write(lambda t: _sqlite_people.resume(t, scope, actor, comment))

    async def pauses(self) -> Sequence[Pause]:
        """Pauses in force."""
        if self._pauses is None:
            # This process is the only writer of the file: what it read once and changed itself is the truth.
            read = await self._read(_sqlite_people.all_pauses)
            if self._pauses is None:  # Otherwise a pause was engaged while this was read, and knows better.
                self._pauses = read
        now = self._clock.now()
        return [pause for pause in self._pauses if pause.until is None or pause.until > now]

    # money -----------------------------------------------------------------------------------------------------------

    async def transfer_of(self, key: str) -> Transfer | None:
        """The newest transfer under the key of a step, or None."""
        return await self._read(lambda c: _sqlite_money.of_key(c, key))

    async def transfer(self, transfer_id: str) -> Transfer:
        """One transfer. Raises NotFound."""
        return await self._read(lambda c: _sqlite_money.one(c, transfer_id))

    async def transfers(
        self, *, source: str = "", open_only: bool = False, before: str = "", limit: int = 1000
    ) -> Sequence[Transfer]:
        """Transfers, newest first."""
        return await self._read(lambda c: _sqlite_money.several(c, source, open_only, before, limit))

    async def save_transfer(self, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
        """Write a moved transfer with its record. Raises Conflict, NotFound."""
        return await self._write(lambda t: _sqlite_money.save(t, transfer, detail))

    # what guards ask -------------------------------------------------------------------------------------------------

    async def past_runs(self, of: str, values: Sequence[str], since: float, but: str, most: int) -> Sequence[PastRun]:
        """Licensed runs, those that go on first."""
        return await self._read(lambda c: _sqlite_facts.past_runs(c, of, values, since, but, most))

    async def past_changes(self, target: str, since: float, but: str, most: int) -> Sequence[PastChange]:
        """Licences on a target, newest first."""
        return await self._read(lambda c: _sqlite_facts.past_changes(c, target, since, but, most))

    async def lives(self, key: str, most: int) -> Sequence[float]:
        """When a problem's newest incidents began."""
        return self._peek(lambda c: _sqlite_facts.lives(c, key, most))

    async def opened(self, since: float, most: int) -> Sequence[OpenedRun]:
        """The newest runs that were opened."""
        return await self._read(lambda c: _sqlite_facts.opened(c, since, most))

    async def opened_count(self, since: float, until: float) -> int:
        """How many incidents had runs opened in between."""
        return await self._read(lambda c: _sqlite_facts.opened_count(c, since, until))

    async def targets_firing(self) -> frozenset[str]:
        """Targets of the runs of open incidents."""
        return await self._read(_sqlite_facts.targets_firing)

    async def firing(self, texts: Sequence[str], most: int) -> Sequence[Incident]:
        """Open incidents whose members hold all texts."""
        return await self._read(lambda c: _sqlite_facts.firing(c, texts, most))

    async def announced(self, alert: str, at: float, but: str) -> Sequence[Announced]:
        """Who had announced an alert."""
        return self._peek(lambda c: _sqlite_facts.announced(c, alert, at, but, self._clock.now()))

    async def guard_states(self, guard: str = "", *, open_only: bool = False) -> Sequence[GuardState]:
        """What guards keep."""
        return self._peek(lambda c: _sqlite_facts.guard_states(c, guard, open_only))

    async def open_guard(self, wanted: GuardState) -> GuardState:
        """Open a guard's state, or lengthen it."""
        return await self._write(lambda t: _sqlite_facts.open_guard(t, wanted))

    async def close_guard(self, guard: str, scope: str, actor: str, reason: str) -> Sequence[GuardState]:
        """Close what a guard has open. Raises NotFound."""
        return await self._write(lambda t: _sqlite_facts.close_guard(t, guard, scope, actor, reason))

    # audit -----------------------------------------------------------------------------------------------------------

    async def append(self, *entries: Entry) -> None:
        """Record what moves no run."""
        await self._write(lambda transaction: transaction.record(*entries))

    async def audit(
        self, *, after: int = 0, before: int = 0, limit: int = 100, run: str = "", rule: str = "", event: str = ""
    ) -> Sequence[AuditRecord]:
        """Records in rising order after ``after``, or falling below ``before``."""
        where = ["sequence < ?"] if before else ["sequence > ?"]
        values: list[Any] = [before or after]
        for column, value in (("run_id", run), ("rule", rule), ("event", event)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        order = "DESC" if before else "ASC"
        sql = f"SELECT {AUDIT} FROM audit WHERE {' AND '.join(where)} ORDER BY sequence {order} LIMIT ?"  # noqa: S608
        rows = await self._read(lambda c: c.execute(sql, (*values, limit)).fetchall())
        return [read_audit(row) for row in rows]

    async def audit_stream(self) -> AsyncIterator[AuditRecord]:
        """Every record in rising order, a thousand at a time."""
        after = 0
        while records := await self.audit(after=after, limit=1000):
            for record in records:
                yield record
            after = records[-1].sequence

    # retention -------------------------------------------------------------------------------------------------------

    async def prune(self, keep: float, most: int) -> Pruned:
        """Remove some of what is old. Raises StoreUnavailable while the host's clock is behind."""

        def operation(transaction: Transaction) -> Pruned:
            done = _sqlite_retention.prune(transaction, keep, most)
            if done.incidents:
                self._known.forget()
            return done

        return await self._act(operation, long=True)

    # figures ---------------------------------------------------------------------------------------------------------

    async def backlog(self) -> int:
        """How many runs are queued, held or running."""

        def count(connection: sqlite3.Connection) -> int:
            sql = "SELECT count(*) FROM run WHERE state IN ('queued','held','running') AND kind = 'remedy'"
            return int(connection.execute(sql).fetchone()[0])

        self._backlog = self._peek(count) if self._backlog < _FEW else await self._read(count)
        return self._backlog

    async def counts(self) -> Counts:
        """Figures for metrics and readiness."""
        now = self._clock.now()

        def operation(connection: sqlite3.Connection) -> Counts:
            states = dict(
                connection.execute("SELECT state, count(*) FROM run WHERE kind = 'remedy' GROUP BY state").fetchall()
            )
            oldest = connection.execute(
                "SELECT min(wake_at) FROM run INDEXED BY run_due"
                " WHERE state IN ('queued','held','verifying') AND state <> 'verifying' AND wake_at <= ?",
                (now,),
            ).fetchone()[0]
            asked = connection.execute("SELECT count(*) FROM approval WHERE state = 'pending'").fetchone()[0]
            records = connection.execute("SELECT coalesce(max(sequence), 0) FROM audit").fetchone()[0]
            temporary = "SELECT count(*) FROM run WHERE kind = 'revert' AND state IN ('queued','held','running')"
            in_force = connection.execute(temporary).fetchone()[0]
            return Counts(states, oldest, asked, records, in_force)

        return await self._read(operation)
