"""Real Redis for tests of the integration: one server, Sentinels with their master, and a cluster of six nodes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.integrations.redis.target import RedisTarget
from tests.integrations.shared import shared
from tests.redis import RedisServer
from tests.servers import Server, free_port, program

PERMIT = {
    "actions": [
        "redis.ping", "redis.info", "redis.llen", "redis.scan_count", "redis.cluster", "redis.persistence",
        "redis.cluster_failover", "redis.bgsave", "redis.quarantine_list", "redis.set_key", "redis.delete_key",
        "redis.circuit_breaker_reset",
    ],
    "keys": ["*"],
    "writable_keys": ["feature:rpc", "bull:card-generation:wait", "bull:card-generation:active", "jobs"],
    "nodes": ["*"],
    "breakers": ["provider"],
}  # fmt: skip
BREAKERS = {"provider": {"key": "breaker:{id}", "failures": "failures"}}


def one_server() -> RedisServer:
    """The server that tests share which leave nothing behind but keys."""
    return shared("redis", RedisServer, RedisServer.stop)


def target_of(server: RedisServer, **settings: Any) -> RedisTarget:
    """One server as a target that permits what the tests do."""
    base = {"addresses": [f"127.0.0.1:{server.port}"], "timeout": "2s", "permit": PERMIT, "breakers": BREAKERS}
    return RedisTarget.model_validate({**base, **settings})


_CLUSTERED = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"]


@dataclass
class Cluster:
    """Three primaries with a replica each."""

    nodes: list[RedisServer]

    def target(self, **settings: Any) -> RedisTarget:
        """The cluster as a target that knows all its nodes."""
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        base = {"mode": "cluster", "addresses": addresses, "timeout": "4s", "permit": PERMIT, "breakers": BREAKERS}
        return RedisTarget.model_validate({**base, **settings})

    def node(self, address: str) -> RedisServer:
        """The node at ``host:port``."""
        return next(node for node in self.nodes if address.endswith(f":{node.port}"))

    def replica(self) -> str:
        """The address of a replica whose link to its primary is up."""
        return str(self._until(self._replica))

    def _replica(self) -> str:
        for node in self.nodes:
            if "master_link_status:up" in node.tell("INFO", "replication"):
                return f"127.0.0.1:{node.port}"
        return ""

    def wait_ok(self) -> None:
        """Until every node calls the cluster ok, and all agree on who serves what."""
        self._until(lambda: all("cluster_state:ok" in node.tell("CLUSTER", "INFO") for node in self.nodes))
        self._until(lambda: len({self._view(node) for node in self.nodes}) == 1)

    def _view(self, node: RedisServer) -> frozenset[tuple[str, ...]]:
        """Id, role, primary and slots of every node as ``node`` sees them."""
        lines = [line.split() for line in node.tell("CLUSTER", "NODES").splitlines() if "127.0.0.1" in line]
        return frozenset((each[0], each[2].replace("myself,", ""), each[3], *each[8:]) for each in lines)

    def _until(self, look: Any) -> Any:
        deadline = time.monotonic() + 15
        while not (found := look()):
            assert time.monotonic() < deadline, "the cluster is not as expected"
            time.sleep(0.05)
        return found

    def join(self, buses: list[int]) -> None:
        """Make one cluster of the nodes: as ``redis-cli --cluster create`` does, but without its pauses."""
        first, third = self.nodes[0], 16384 // 3
        for number, node in enumerate(self.nodes):
            node.tell("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if number < 3:
                last = 16383 if number == 2 else (number + 1) * third - 1
                node.tell("CLUSTER", "ADDSLOTSRANGE", str(number * third), str(last))
            if number:
                first.tell("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(buses[number]))
        self._until(lambda: all("cluster_known_nodes:6" in node.tell("CLUSTER", "INFO") for node in self.nodes))
        for number, node in enumerate(self.nodes[3:]):
            identity = self.nodes[number].tell("CLUSTER", "MYID").split("\r\n")[1]
            self._until(lambda node=node, identity=identity: "+OK" in node.tell("CLUSTER", "REPLICATE", identity))
        self._until(lambda: all("master_link_status:up" in n.tell("INFO", "replication") for n in self.nodes[3:]))

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()


def make_cluster() -> Cluster:
    """A new one; it takes about two seconds."""
    nodes: list[RedisServer] = []
    buses: list[int] = []
    try:
        for _ in range(6):
            bus = free_port()
            nodes.append(RedisServer(*_CLUSTERED, "--cluster-port", str(bus)))
            buses.append(bus)
        cluster = Cluster(nodes)
        cluster.join(buses)
        cluster.wait_ok()
        cluster.replica()
    except BaseException:
        for node in nodes:
            node.stop()
        raise
    return cluster


def one_cluster() -> Cluster:
    """The cluster that tests share which leave all its nodes running."""
    return shared("redis cluster", make_cluster, Cluster.stop)


@contextmanager
def sentinel(master: RedisServer, directory: Path) -> Iterator[str]:
    """The address of a Sentinel that watches ``master`` under the name ``main``."""
    port, log = free_port(), directory / "sentinel.log"
    settings = directory / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program("redis-server"), settings, "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"redis://127.0.0.1:{port}"
    server = Server(name="sentinel", url=url, directory=directory / "sentinel", log=log, process=process)
    try:
        _wait(port)
        yield f"127.0.0.1:{port}"
    finally:
        server.stop()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError("the Sentinel does not listen")
