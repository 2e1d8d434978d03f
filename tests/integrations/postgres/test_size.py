"""Tests of the probe postgres.size, against a real server."""

from __future__ import annotations

import json

from remediator.integrations.postgres.size import Size
from tests.integrations.postgres.servers import one_postgres, sql, target_of
from tests.integrations.support import looking


async def test_the_largest_tables_come_first() -> None:
    """Sizes in bytes, with indexes; the catalogue itself is left out."""
    server = one_postgres()
    sql(server, "INSERT INTO processed_events (processed_at) SELECT now() FROM generate_series(1, 5000)")
    evidence = await Size(tables=2).read(target_of(server), looking())
    assert evidence["bytes"] > evidence["tables"][0]["bytes"] > evidence["tables"][1]["bytes"] >= 0
    assert evidence["tables"][0]["table"] == "processed_events"
    assert len(evidence["tables"]) == 2
    assert (await Size(tables=0).read(target_of(server), looking()))["tables"] == []
    json.dumps(evidence, allow_nan=False)
