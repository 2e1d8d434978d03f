"""The store for several replicas: one PostgreSQL database, every verb one transaction, no clock but the database's.

Sources: postgresql.org/docs/current/explicit-locking.html (row and advisory locks), sql-select.html (SKIP LOCKED),
sql-notify.html, runtime-config-client.html (time-outs). What is locked, and in which order, stands in docs/adr.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from remediator.arrival import Arrival, Receipt
from remediator.audit import AuditRecord, Entry
from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.errors import NotFound, StoreUnavailable
from remediator.facts import Announced, GuardState, OpenedRun, PastChange, PastRun
from remediator.guard import Limit
from remediator.ids import Ids
from remediator.incident import Incident
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
    _decide,
    _postgres_facts,
    _postgres_intake,
    _postgres_migrate,
    _postgres_money,
    _postgres_people,
    _postgres_retention,
    _postgres_runs,
    _tally,
)
from remediator.stores._gather import Gatherer
from remediator.stores._postgres_connect import Address
from remediator.stores._postgres_database import Database, Name
from remediator.stores._postgres_known import Known
from remediator.stores._postgres_session import Session, Transaction
from remediator.stores._postgres_wake import Listener
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

R = TypeVar("R")
_BATCH = 2000
"""How many alerts share one commit at most; as many as one delivery may hold."""
_AT_ONCE = 2
"""How many batches are under way: one is settled while another waits for its commit."""
_SKEW = 0.05
"""Seconds by which the host's clock may differ from the database's without anybody noticing."""


class PostgresStore:
    """``Store`` on PostgreSQL 13 or newer, for any number of replicas.

    ``clock`` decides nothing: it tells this host when to look for work, and ``ids`` come from the host. ``tolerance``
    is that of SqliteStore, and so is ``migrate``. ``password_file`` is read for every new connection. Times are
    seconds: ``connect_timeout`` for a connection, ``acquire_timeout`` for a place in the pool, ``command_timeout`` for
    a statement (told to the server too), ``verb_timeout`` for a whole verb, after which it raises StoreUnavailable;
    ``idle_timeout`` is how long a frozen replica can keep others waiting. ``pool_size`` connections are used at most,
    and one more to listen.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        ids: Ids,
        tolerance: float = 60.0,
        schema: str = "remediator",
        migrate: bool = True,
        password_file: str = "",
        pool_size: int = 10,
        connect_timeout: float = 2.0,
        acquire_timeout: float = 3.0,
        command_timeout: float = 3.0,
        verb_timeout: float = 4.5,
        idle_timeout: float = 2.0,
    ) -> None:
        self._address = Address(
            url=url,
            schema=schema,
            password_file=password_file,
            connect=connect_timeout,
            statement=command_timeout,
            idle=idle_timeout,
        )
        self._migrate = migrate
        self._clock = clock
        self._ids = ids
        self._tolerance = tolerance
        self._pool = (pool_size, acquire_timeout, verb_timeout)
        self._database: Database | None = None
        self._gatherer: Gatherer | None = None
        self._listener: Listener | None = None
        self._known = Known()
        self._callbacks: list[Callable[[], None]] = []

    # life ------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, bring the schema up to date if this role may, and listen.

        Raises StoreError that says what to do, and then holds nothing.
        """
        await _postgres_migrate.ensure(self._address, apply=self._migrate)
        size, acquire, verb = self._pool
        self._database = Database(self._address, size=size, acquire=acquire, verb=verb)
        await self._database.open()
        self._gatherer = Gatherer(self._intake, most=_BATCH, at_once=_AT_ONCE)
        self._listener = Listener(self._address, self._woken)
        self._listener.start()

    async def close(self) -> None:
        """Finish what was submitted and close every connection."""
        database, gatherer, listener = self._database, self._gatherer, self._listener
        self._gatherer = self._listener = None
        if listener is not None:
            await listener.stop()
        if gatherer is not None:
            await gatherer.finished()
        self._database = None
        if database is not None:
            await database.close()

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a replica has committed something that may be due, this one included."""
        self._callbacks.append(callback)

    def _woken(self) -> None:
        for callback in self._callbacks:
            callback()

    async def ping(self) -> None:
        """Commit a row: what changes nothing would not reach the disk and prove nothing."""
        await self._read(lambda session: session.run("UPDATE pulse SET at = remediator_now()"))

    async def _write(
        self, work: Callable[[Transaction], Awaitable[R]], *, alone: Sequence[Name] = (), shared: Sequence[Name] = ()
    ) -> R:
        if self._database is None:
            raise StoreUnavailable("the store is not open")
        return await self._database.write(work, alone=alone, shared=shared)

    async def _read(self, work: Callable[[Session], Awaitable[R]]) -> R:
        if self._database is None:
            raise StoreUnavailable("the store is not open")
        return await self._database.read(work)

    # intake ----------------------------------------------------------------------------------------------------------

    async def intake(self, arrival: Arrival) -> Receipt:
        """Commit one delivery; deliveries that wait at the same time share the commit."""
        if self._gatherer is None:
            raise StoreUnavailable("the store is not open")
        return await self._gatherer.submit(arrival)

    async def _intake(self, arrivals: Sequence[Arrival]) -> list[Receipt]:
        told = _postgres_intake.again(arrivals, self._known, self._ids, self._tolerance)
        if told is not None:
            crashpoint("store.before_commit")
            kept = await self._read(lambda session: _postgres_intake.keep_again(session, told))
            crashpoint("store.after_commit")
            if kept:
                return told.settled.receipts
        alone, shared = _postgres_intake.locks(_postgres_intake.keys_of(arrivals))
        return await self._write(
            lambda t: _postgres_intake.intake(t, arrivals, self._known, self._ids, self._tolerance),
            alone=alone,
            shared=shared,
        )

    async def remember(self, rules: Mapping[str, str], *entries: Entry) -> None:
        """Keep rule bodies by digest."""

        async def work(transaction: Transaction) -> None:
            digests = sorted(rules)
            await transaction.run(
                "INSERT INTO rule_version (digest, body, seen_at) SELECT r.digest, r.body, remediator_now()"
                " FROM unnest($1::text[], $2::text[]) AS r (digest, body) ON CONFLICT DO NOTHING",
                digests,
                [rules[digest] for digest in digests],
            )
            transaction.record(*entries)

        await self._write(work)

    async def rule_body(self, digest: str) -> str:
        """The body kept under ``digest``. Raises NotFound."""
        row = await self._read(lambda s: s.one("SELECT body FROM rule_version WHERE digest = $1", digest))
        if row is None:
            raise NotFound(f"no rule with digest {digest}")
        return str(row[0])

    # runs ------------------------------------------------------------------------------------------------------------

    async def claim(self, owner: str, lease: float, most: int) -> Sequence[Claim]:
        """Take due runs; replicas choose one after the other."""
        return await self._write(
            lambda t: _postgres_runs.claim(t, owner, lease, most), alone=[_postgres_runs.CLAIMING]
        )

    async def renew(self, runs: Sequence[Run], lease: float) -> Collection[str]:
        """Lengthen leases; the ids of runs that are no longer ours."""
        return await self._read(lambda session: _postgres_runs.renew(session, runs, lease))

    async def save(self, run: Run, *entries: Entry, follow: Sequence[Run] = ()) -> Run:
        """Write a moved run with its entries. Raises Lost."""
        # Who resumes wakes what is held by then: it and a run that is just going to be held wait for each other.
        pauses = [_postgres_people.PAUSES] if _decide.waits_for_resume(run) else []
        return await self._write(lambda t: _postgres_runs.save(t, run, entries, follow), shared=pauses)

    async def licence(self, request: LicenceRequest) -> Licence | Refusal:
        """The licence transaction. Raises Lost."""
        return await self._write(
            lambda transaction: _postgres_runs.licence(transaction, request, self._ids),
            alone=[*_postgres_runs.scopes(request), *_postgres_money.locks(request)],
            shared=[_postgres_people.PAUSES],
        )

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
        return await self._write(lambda t: _postgres_runs.conclude(t, run, effect_id, state, outcome, entries, follow))

    async def late(self, effect_id: str, state: str, outcome: Mapping[str, Any], entry: Entry) -> None:
        """Append evidence of an owner that lost its run."""
        await self._write(lambda transaction: _postgres_runs.late(transaction, effect_id, state, outcome, entry))

    async def within(
        self, limits: Sequence[Limit], run: Run, incident_key: str, targets: Sequence[str]
    ) -> Refusal | None:
        """Whether the limits would allow a licence now."""

        async def work(session: Session) -> Refusal | None:
            for target in targets or ("",):
                refusal = await _postgres_runs.over(session, limits, run, incident_key, target)
                if refusal is not None:
                    return refusal
            return None

        return await self._read(work)

    async def next_due(self) -> float | None:
        """When the next run that nobody holds becomes due, as this host's clock will show it."""
        row = await self._read(
            lambda s: s.one(
                "SELECT wake_at, remediator_now() FROM run WHERE state IN ('queued','held','verifying')"
                " AND lease_until = 0 ORDER BY wake_at LIMIT 1"
            )
        )
        if row is None:
            return None
        # Who waits for it looks at the host's clock, and would wait too long, or not at all, where the two differ.
        ahead = self._clock.now() - row[1]
        return float(row[0]) + (ahead if abs(ahead) > _SKEW else 0.0)

    async def run(self, run_id: str) -> Run:
        """One run, or the newest for ``@latest``. Raises NotFound."""
        if run_id == "@latest":
            newest = f"SELECT {RUN} FROM run WHERE kind = 'remedy' ORDER BY id DESC LIMIT 1"  # noqa: S608
            row = await self._read(lambda s: s.one(newest))
        else:
            row = await self._read(lambda s: s.one(f"SELECT {RUN} FROM run WHERE id = $1", run_id))  # noqa: S608
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
        where = _Where()
        where.add("kind = ANY({})", [kind.value for kind in kinds])
        if about:
            where.add("starts_with(about, {})", about)
        if states:
            where.add("state = ANY({})", [state.value for state in states])
        for column, value in (("rule", rule), ("incident_id", incident)):
            if value:
                where.add(f"{column} = {{}}", value)
        if before:
            where.add("id < {}", before)
        rows = await self._read(
            lambda s: s.all(f"SELECT {RUN} FROM run {where} ORDER BY id DESC LIMIT {limit:d}", *where.values)  # noqa: S608
        )
        return [read_run(row) for row in rows]

    async def effects(self, run_id: str) -> Sequence[EffectRow]:
        """The licences of a run, oldest first."""
        sql = f"SELECT {EFFECT} FROM effect WHERE run_id = $1 ORDER BY ordinal"  # noqa: S608
        return [read_effect(row) for row in await self._read(lambda s: s.all(sql, run_id))]

    async def incident(self, incident_id: str) -> Incident:
        """One incident. Raises NotFound."""
        found = await self.incidents_of((incident_id,))
        if incident_id not in found:
            raise NotFound(f'there is no incident "{incident_id}"')
        return found[incident_id]

    async def incidents(self, *, open_only: bool = False, before: str = "", limit: int = 100) -> Sequence[Incident]:
        """Incidents, newest first."""
        where = "ended_at IS NULL" if open_only else "true"
        sql = f"SELECT {INCIDENT} FROM incident WHERE {where} AND id < $1 ORDER BY id DESC LIMIT $2"  # noqa: S608
        return [read_incident(row) for row in await self._read(lambda s: s.all(sql, before or "~", limit))]

    async def latest(self, key: str) -> Incident | None:
        """The newest life of a problem, or None."""
        sql = f"SELECT {INCIDENT} FROM incident WHERE key = $1 ORDER BY ordinal DESC LIMIT 1"  # noqa: S608
        row = await self._read(lambda s: s.one(sql, key))
        return None if row is None else read_incident(row)

    async def incidents_of(self, ids: Collection[str]) -> Mapping[str, Incident]:
        """Incidents by id."""
        sql = f"SELECT {INCIDENT} FROM incident WHERE id = ANY($1::text[])"  # noqa: S608
        return {row[0]: read_incident(row) for row in await self._read(lambda s: s.all(sql, sorted(ids)))}

    async def tally(self, rule: str) -> Tally:
        """What became of the newest runs of a rule."""
        sql = (
            "WITH mine AS (SELECT id FROM (SELECT id, rule FROM run WHERE kind = 'remedy'"  # noqa: S608
            " ORDER BY created_at DESC LIMIT $1) AS newest WHERE rule = $2 LIMIT $3)"
            f" SELECT {_tally.COLUMNS} FROM mine JOIN run AS r ON r.id = mine.id"
            " JOIN incident AS i ON i.id = r.incident_id"
        )
        return _tally.tally(await self._read(lambda s: s.all(sql, _tally.LOOKED, rule, _tally.RUNS)))

    # people ----------------------------------------------------------------------------------------------------------

    async def ask(self, run: Run, approval: Approval, *entries: Entry, follow: Sequence[Run] = ()) -> Run:
        """Hold a run and ask people. Raises Lost."""
        return await self._write(lambda t: _postgres_people.ask(t, run, approval, entries, follow))

    async def approval(self, run_id: str) -> Approval | None:
        """The newest question of a run, or None."""
        return await self._read(lambda session: _postgres_people.newest_approval(session, run_id))

    async def vote(self, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
        """A person's answer. Raises NotFound, Conflict."""
        return await self._write(lambda t: _postgres_people.vote(t, run_id, digest, actor, yes, comment))

    async def cancel(self, run_id: str, actor: str, comment: str, found: Found | None = None) -> Run:
        """A person cancels what has not begun, or says what became of an effect. Raises NotFound, Conflict."""
        return await self._write(lambda t: _postgres_people.cancel(t, run_id, actor, comment, found))

    async def acknowledge(self, run_id: str, actor: str, comment: str) -> Run:
        """A person takes over; nobody else is called. Raises NotFound, Conflict."""
        return await self._write(lambda t: _postgres_people.acknowledge(t, run_id, actor, comment))

    async def retry(self, run_id: str, actor: str, comment: str) -> Run:
        """Try once more what ended and changed nothing. Raises NotFound, Conflict."""
        return await self._write(lambda t: _postgres_people.retry(t, run_id, actor, comment))

    async def hasten(self, run_id: str, actor: str, comment: str) -> Run:
        """Have a temporary change go back now. Raises NotFound, Conflict."""
        return await self._write(lambda t: _postgres_people.hasten(t, run_id, actor, comment))

    async def pause(self, pause: Pause) -> None:
        """Engage or replace a pause; licences that are being given are waited for, and none follows."""
        await self._write(lambda t: _postgres_people.pause(t, pause), alone=[_postgres_people.PAUSES])

    async def resume(self, scope: str, actor: str, comment: str) -> None:
        """Release a pause. Raises NotFound."""
        await self._write(lambda t: _postgres_people.resume(t, scope, actor, comment), alone=[_postgres_people.PAUSES])

    async def pauses(self) -> Sequence[Pause]:
        """Pauses in force, whichever replica was told."""

        async def work(session: Session) -> Sequence[Pause]:
            pauses = await _postgres_people.all_pauses(session)
            now = await session.now() if pauses else 0.0
            return [pause for pause in pauses if pause.until is None or pause.until > now]

        return await self._read(work)

    # money -----------------------------------------------------------------------------------------------------------

    async def transfer_of(self, key: str) -> Transfer | None:
        """The newest transfer under the key of a step, or None."""
        return await self._read(lambda s: _postgres_money.of_key(s, key))

    async def transfer(self, transfer_id: str) -> Transfer:
        """One transfer. Raises NotFound."""
        return await self._read(lambda s: _postgres_money.one(s, transfer_id))

    async def transfers(
        self, *, source: str = "", open_only: bool = False, before: str = "", limit: int = 1000
    ) -> Sequence[Transfer]:
        """Transfers, newest first."""
        return await self._read(lambda s: _postgres_money.several(s, source, open_only, before, limit))

    async def save_transfer(self, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
        """Write a moved transfer with its record. Raises Conflict, NotFound."""
        return await self._write(lambda t: _postgres_money.save(t, transfer, detail))

    # what guards ask -------------------------------------------------------------------------------------------------

    async def past_runs(self, of: str, values: Sequence[str], since: float, but: str, most: int) -> Sequence[PastRun]:
        """Licensed runs, those that go on first."""
        return await self._read(lambda s: _postgres_facts.past_runs(s, of, values, since, but, most))

    async def past_changes(self, target: str, since: float, but: str, most: int) -> Sequence[PastChange]:
        """Licences on a target, newest first."""
        return await self._read(lambda s: _postgres_facts.past_changes(s, target, since, but, most))

    async def lives(self, key: str, most: int) -> Sequence[float]:
        """When a problem's newest incidents began."""
        return await self._read(lambda s: _postgres_facts.lives(s, key, most))

    async def opened(self, since: float, most: int) -> Sequence[OpenedRun]:
        """The newest runs that were opened."""
        return await self._read(lambda s: _postgres_facts.opened(s, since, most))

    async def opened_count(self, since: float, until: float) -> int:
        """How many incidents had runs opened in between."""
        return await self._read(lambda s: _postgres_facts.opened_count(s, since, until))

    async def targets_firing(self) -> frozenset[str]:
        """Targets of the runs of open incidents."""
        return await self._read(_postgres_facts.targets_firing)

    async def firing(self, texts: Sequence[str], most: int) -> Sequence[Incident]:
        """Open incidents whose members hold all texts."""
        return await self._read(lambda s: _postgres_facts.firing(s, texts, most))

    async def announced(self, alert: str, at: float, but: str) -> Sequence[Announced]:
        """Who had announced an alert."""
        return await self._read(lambda s: _postgres_facts.announced(s, alert, at, but))

    async def guard_states(self, guard: str = "", *, open_only: bool = False) -> Sequence[GuardState]:
        """What guards keep."""
        return await self._read(lambda s: _postgres_facts.guard_states(s, guard, open_only))

    async def open_guard(self, wanted: GuardState) -> GuardState:
        """Open a guard's state, or lengthen it."""
        return await self._write(lambda t: _postgres_facts.open_guard(t, wanted), alone=[_postgres_facts.STATES])

    async def close_guard(self, guard: str, scope: str, actor: str, reason: str) -> Sequence[GuardState]:
        """Close what a guard has open. Raises NotFound."""
        return await self._write(
            lambda t: _postgres_facts.close_guard(t, guard, scope, actor, reason), alone=[_postgres_facts.STATES]
        )

    # audit -----------------------------------------------------------------------------------------------------------

    async def append(self, *entries: Entry) -> None:
        """Record what moves no run."""

        async def work(transaction: Transaction) -> None:
            transaction.record(*entries)

        await self._write(work)

    async def audit(
        self, *, after: int = 0, before: int = 0, limit: int = 100, run: str = "", rule: str = "", event: str = ""
    ) -> Sequence[AuditRecord]:
        """Records in rising order after ``after``, or falling below ``before``."""
        where = _Where()
        where.add("sequence < {}" if before else "sequence > {}", before or after)
        for column, value in (("run_id", run), ("rule", rule), ("event", event)):
            if value:
                where.add(f"{column} = {{}}", value)
        order = "DESC" if before else "ASC"
        sql = f"SELECT {AUDIT} FROM audit {where} ORDER BY sequence {order} LIMIT {limit:d}"  # noqa: S608
        return [read_audit(row) for row in await self._read(lambda s: s.all(sql, *where.values))]

    async def audit_stream(self) -> AsyncIterator[AuditRecord]:
        """Every record in rising order, a thousand at a time."""
        after = 0
        while records := await self.audit(after=after, limit=1000):
            for record in records:
                yield record
            after = records[-1].sequence

    async def prune(self, keep: float, most: int) -> Pruned:
        """Remove some of what is old; one replica at a time."""
        return await self._write(
            lambda t: _postgres_retention.prune(t, keep, most), alone=[_postgres_retention.PRUNING]
        )

    # figures ---------------------------------------------------------------------------------------------------------

    async def backlog(self) -> int:
        """How many runs are queued, held or running."""
        sql = "SELECT count(*) FROM run WHERE state = ANY('{queued,held,running}') AND kind = 'remedy'"
        return int((await self._read(lambda s: s.one(sql)))[0])

    async def counts(self) -> Counts:
        """Figures for metrics and readiness."""

        async def work(session: Session) -> Counts:
            per_state = "SELECT state, count(*) FROM run WHERE kind = 'remedy' GROUP BY state"
            states = {row[0]: row[1] for row in await session.all(per_state)}
            row = await session.one(
                "SELECT (SELECT min(wake_at) FROM run WHERE state IN ('queued','held') AND wake_at <= n.now),"
                " (SELECT count(*) FROM approval WHERE state = 'pending'), (SELECT sequence FROM audit_head),"
                " (SELECT count(*) FROM run WHERE kind = 'revert' AND state = ANY('{queued,held,running}'))"
                " FROM (SELECT remediator_now() AS now) AS n"
            )
            return Counts(states, row[0], row[1], row[2], row[3])

        return await self._read(work)


class _Where:
    """A WHERE clause of our own words, with what callers gave as numbered parameters."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, value: Any) -> None:
        """One condition more, in which {} stands for the value."""
        self.values.append(value)
        self._conditions.append(condition.format(f"${len(self.values)}"))

    def __str__(self) -> str:
        return "WHERE " + " AND ".join(self._conditions) if self._conditions else ""
