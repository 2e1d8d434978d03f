"""Network addresses that no target may ever reach: link-local ones and the metadata services of clouds."""

from __future__ import annotations

import errno
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_FORBIDDEN = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local; the metadata service of most clouds, task roles of containers
        "100.100.100.200/32",  # metadata service of Alibaba Cloud
        "168.63.129.16/32",  # host agent of Azure
        "192.0.0.192/32",  # metadata service of Oracle Cloud, classic
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # metadata service of AWS
        "fd20:ce::254/128",  # metadata service of Google Cloud
        "fd00:c1::a9fe:a9fe/128",  # metadata service of Oracle Cloud
    )
)
_NAT64 = ip_network("64:ff9b::/96")


class ForbiddenAddress(OSError):
    """The address is one that Remediator never connects to."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"{address} is a link-local or metadata address, which is always refused")


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: IPv4-mapped, 6to4 or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


@lru_cache(maxsize=1024)
def is_forbidden(text: str) -> bool:
    """True for an IP address (with or without a zone) that is never connected to; False for names."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return False
    inner = _embedded(address)
    return any(candidate in network for candidate in (address, inner) if candidate for network in _FORBIDDEN)


class SafeResolver(AbstractResolver):
    """Resolves names as the host does and refuses a name as soon as one of its addresses is forbidden.

    Leaving out only the forbidden address would let a name that answers differently each time slip through.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``. Raises ForbiddenAddress."""
        results = await ThreadedResolver().resolve(host, port, family)
        for result in results:
            if is_forbidden(result["host"]):
                raise ForbiddenAddress(result["host"])
        return results

    async def close(self) -> None:
        """Nothing is held."""


def safe_socket(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket for exactly the address in ``info``: the last check before a connection, also for literal IPs.

    Raises ForbiddenAddress.
    """
    family, kind, protocol, _, address = info
    if is_forbidden(str(address[0])):
        raise ForbiddenAddress(str(address[0]))
    return socket.socket(family=family, type=kind, proto=protocol)
