"""Reading CLUSTER NODES: who is in the cluster, in which role, and which slots it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLOTS = 16384
"""Hash slots of every cluster."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One line of CLUSTER NODES (redis.io/commands/cluster-nodes). ``master`` is the id of a replica's primary."""

    id: str
    address: str
    flags: tuple[str, ...]
    master: str
    connected: bool
    slots: Sequence[tuple[int, int]]

    @property
    def primary(self) -> bool:
        """True for a node that may serve slots."""
        return "master" in self.flags

    @property
    def failed(self) -> bool:
        """True if the majority (``fail``) or the node that was asked (``fail?``) holds it for dead."""
        return bool({"fail", "fail?", "noaddr", "handshake"} & set(self.flags))

    def holds(self, slot: int) -> bool:
        """True if it serves ``slot``."""
        return any(first <= slot <= last for first, last in self.slots)

    @property
    def size(self) -> int:
        """How many slots it serves."""
        return sum(last - first + 1 for first, last in self.slots)


def parse_nodes(text: bytes, asked: str) -> list[Node]:
    """The nodes in the order of the answer. ``asked`` is where it came from, for a node that knows no own address."""
    found = []
    for line in text.decode(errors="replace").splitlines():
        identity, place, flags, master, _ping, _pong, _epoch, link, *slots = line.split()
        marks = tuple(flags.split(","))
        host, _, port = place.partition("@")[0].rpartition(":")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        found.append(
            Node(
                id=identity,
                address=asked if not host and "myself" in marks else address,
                flags=tuple(mark for mark in marks if mark != "myself"),
                master="" if master == "-" else master,
                connected=link == "connected",
                # A slot that is being moved stands in brackets besides.
                slots=[_range(slot) for slot in slots if not slot.startswith("[")],
            )
        )
    return found


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
