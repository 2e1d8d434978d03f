"""The stages of redis actions for the contract suite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.redis.bgsave import Bgsave
from remediator.integrations.redis.circuit_breaker_reset import CircuitBreakerReset
from remediator.integrations.redis.cluster_failover import ClusterFailover
from remediator.integrations.redis.delete_key import DeleteKey
from remediator.integrations.redis.quarantine_list import QuarantineList
from remediator.integrations.redis.set_key import SetKey
from tests.integrations.arrangements import Stage
from tests.integrations.redis.monitor import Monitor
from tests.integrations.redis.servers import one_cluster, one_server, target_of
from tests.redis import RedisServer, redis_server


def _has(server: RedisServer, key: str, value: str) -> bool:
    return f"\r\n{value}\r\n" in server.tell("GET", key)


@asynccontextmanager
async def redis_set_key(directory: Path) -> AsyncIterator[Stage]:
    """A switch that is to be on."""
    server = one_server()
    server.tell("SET", "feature:rpc", "primary")
    target = target_of(server)
    action = SetKey(key="feature:rpc", value="fallback")
    monitor = Monitor(server)
    yield Stage(
        action=action,
        target=target,
        effects=lambda: int(_has(server, "feature:rpc", "fallback")),
        converges=True,
        left=monitor.left,
    )
    monitor.close()
    await target.close()


@asynccontextmanager
async def redis_delete_key(directory: Path) -> AsyncIterator[Stage]:
    """A key that is to go."""
    server = one_server()
    server.tell("SET", "feature:rpc", "primary")
    target = target_of(server)
    yield Stage(
        action=DeleteKey(key="feature:rpc"),
        target=target,
        effects=lambda: int(server.tell("EXISTS", "feature:rpc") == ":0\r\n"),
        converges=True,
    )
    await target.close()


@asynccontextmanager
async def redis_quarantine_list(directory: Path) -> AsyncIterator[Stage]:
    """A list of three jobs that nobody takes."""
    key = "bull:card-generation:wait"
    server = one_server()
    server.tell("FLUSHALL")
    server.tell("RPUSH", key, "a", "b", "c")
    target = target_of(server)

    def effects() -> int:
        return int(server.tell("LLEN", f"{{{key}}}:quarantine:run-1.step0") == ":3\r\n")

    monitor = Monitor(server)
    yield Stage(action=QuarantineList(key=key), target=target, effects=effects, converges=True, left=monitor.left)
    monitor.close()
    await target.close()


@asynccontextmanager
async def redis_circuit_breaker_reset(directory: Path) -> AsyncIterator[Stage]:
    """A breaker that opened two minutes ago."""
    server = one_server()
    server.tell("HSET", "breaker:alchemy", "state", "open", "failures", "7", "opened_at", str(int(time.time()) - 120))
    target = target_of(server)
    yield Stage(
        action=CircuitBreakerReset(breaker="provider", id="alchemy"),
        target=target,
        effects=lambda: int("closed" in server.tell("HGET", "breaker:alchemy", "state")),
        converges=True,
    )
    await target.close()


@asynccontextmanager
async def redis_bgsave(directory: Path) -> AsyncIterator[Stage]:
    """A server that has written no snapshot yet."""
    with redis_server() as server:
        target = target_of(server)

        def effects() -> int:
            (line,) = [each for each in server.tell("INFO", "persistence").split() if each.startswith("rdb_saves:")]
            return int(line.partition(":")[2])

        yield Stage(action=Bgsave(), target=target, effects=effects, converges=True)
        await target.close()


@asynccontextmanager
async def redis_cluster_failover(directory: Path) -> AsyncIterator[Stage]:
    """A replica of the shared cluster that is to take over."""
    cluster = one_cluster()
    cluster.wait_ok()
    replica = cluster.replica()
    node = cluster.node(replica)
    target = cluster.target()
    yield Stage(
        action=ClusterFailover(node=replica),
        target=target,
        effects=lambda: int("role:master" in node.tell("INFO", "replication")),
        converges=True,
    )
    await target.close()


STAGES = {
    "redis.bgsave": redis_bgsave,
    "redis.circuit_breaker_reset": redis_circuit_breaker_reset,
    "redis.cluster_failover": redis_cluster_failover,
    "redis.delete_key": redis_delete_key,
    "redis.quarantine_list": redis_quarantine_list,
    "redis.set_key": redis_set_key,
}
