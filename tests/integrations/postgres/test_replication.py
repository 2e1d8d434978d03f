"""Tests of the probe postgres.replication, against a real primary with a real replica."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time

from remediator.integrations.postgres.replication import Replication
from remediator.integrations.postgres.target import PostgresTarget
from tests.integrations.postgres.servers import one_postgres, settings, sql, target_of
from tests.integrations.support import looking
from tests.postgres import PASSWORD, Postgres, _binary


def _standby(primary: Postgres) -> Postgres:
    """A replica of ``primary``, not started yet."""
    replica = Postgres()
    user = "postgres" if os.geteuid() == 0 else None
    argv = [_binary("pg_basebackup"), "-D", str(replica.data), "-R", "-c", "fast", "-X", "stream"]
    argv += ["-d", f"host=127.0.0.1 port={primary.port} user=superuser application_name=replica-1"]
    environment = {"PGPASSWORD": PASSWORD, "PATH": os.environ["PATH"]}
    subprocess.run(argv, user=user, env=environment, cwd=replica.folder, check=True, capture_output=True, timeout=60)
    return replica


async def test_a_primary_and_its_replica() -> None:
    """Both tell how far the replica is behind; a replica that stops is missed, and one that hangs falls behind."""
    primary = one_postgres()
    replica = await asyncio.to_thread(_standby, primary)
    try:
        await asyncio.to_thread(replica.start)
        target = target_of(primary)
        there = PostgresTarget.model_validate({**settings(primary), "port": replica.port})
        deadline = time.monotonic() + 20
        while not (found := await Replication().read(target, looking()))["streaming"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert (found["role"], found["streaming"], found["inactive_slots"]) == ("primary", 1, 0)
        (seen,) = found["replicas"]
        assert (seen["application_name"], seen["state"], seen["sync_state"]) == ("replica-1", "streaming", "async")
        own = await Replication().read(there, looking())
        assert (own["role"], own["receiving"]) == ("standby", True)
        assert own["lag_seconds"] < 5
        while (await Replication().read(target, looking())).get("max_lag_bytes", 1):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        replica.freeze()
        sql(primary, "INSERT INTO processed_events (processed_at) SELECT now() FROM generate_series(1, 2000)")
        behind = await Replication().read(target, looking())
        assert behind["max_lag_bytes"] > 100_000
        await asyncio.sleep(0.5)
        assert (await Replication().read(target, looking()))["max_lag_seconds"] > 0.5
    finally:
        replica.thaw()
        replica.remove()


async def test_a_slot_that_nobody_reads_is_counted() -> None:
    """A forgotten slot keeps the disk filling; it shows."""
    server = one_postgres()
    sql(server, "SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        found = await Replication().read(target_of(server), looking())
        assert found["inactive_slots"] == 1
        assert found["slots"][0]["slot_name"] == "forgotten"
    finally:
        sql(server, "SELECT pg_drop_replication_slot('forgotten')")
