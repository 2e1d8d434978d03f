"""``postgres.replication``: how far replicas are behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.integrations.postgres._values import as_json
from remediator.integrations.postgres.target import PostgresTarget
from remediator.probe import Probe, ProbeContext

_STANDBY = """
SELECT pg_is_in_recovery() AS standby,
       CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS NOT DISTINCT FROM pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS seconds,
       (SELECT count(*) FROM pg_stat_wal_receiver) AS receivers
"""
# replay_lag stays as it was when a replica falls silent; what it has not confirmed is at least as old as its silence.
_SENDERS = """
SELECT application_name, state, sync_state, state IS NULL AS hidden,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::int8 AS bytes,
       CASE WHEN replay_lsn = pg_current_wal_lsn() THEN 0 ELSE greatest(
           extract(epoch FROM replay_lag), extract(epoch FROM clock_timestamp() - reply_time)) END::float8 AS seconds
FROM pg_stat_replication WHERE application_name NOT IN ('pg_basebackup', 'pg_receivewal')
ORDER BY application_name LIMIT 100
"""
_SLOTS = """
SELECT slot_name, slot_type, active, wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 AS bytes
FROM pg_replication_slots ORDER BY slot_name LIMIT 100
"""


class Replication(Probe[PostgresTarget]):
    """On a primary: its replicas and slots with how far they are behind. On a replica: how far it is itself."""

    def needs(self) -> Mapping[str, str]:
        """Nothing beyond the probe itself."""
        return {}

    async def read(self, target: PostgresTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The replication as evidence. Raises TemporaryError, PermanentError."""
        client = await target.client()
        found: Mapping[str, Any] = await client.look(target, _read)
        client.all_visible(target, found.get("replicas", ()))
        return {
            key: [{name: as_json(cell) for name, cell in row.items() if name != "hidden"} for row in value]
            if isinstance(value, list)
            else value
            for key, value in found.items()
        }


async def _read(connection: Any) -> dict[str, Any]:
    own = await connection.fetchrow(_STANDBY)
    if own["standby"]:
        # Nothing was ever replayed, or no one knows when: without the key a condition on it is a no.
        lag = {} if own["seconds"] is None else {"lag_seconds": round(own["seconds"], 3)}
        return {"role": "standby", "receiving": own["receivers"] > 0, **lag}
    replicas = await connection.fetch(_SENDERS)
    slots = await connection.fetch(_SLOTS)
    streaming = [row for row in replicas if row["state"] == "streaming"]
    found = {
        "role": "primary",
        "streaming": len(streaming),
        "inactive_slots": sum(not row["active"] for row in slots),
        "replicas": list(replicas),
        "slots": list(slots),
    }
    if all(row["bytes"] is not None for row in replicas):
        # A replica that has confirmed nothing yet is not one that is close: then there is no figure at all.
        found["max_lag_seconds"] = round(max((row["seconds"] or 0.0 for row in replicas), default=0.0), 3)
        found["max_lag_bytes"] = max((row["bytes"] for row in replicas), default=0)
    return found
