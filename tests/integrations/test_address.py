"""Tests of the addresses that no target may reach."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations._address import ForbiddenAddress, SafeResolver, is_forbidden, safe_socket
from remediator.integrations._client import Client
from remediator.integrations.http.target import HttpTarget

FORBIDDEN = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_metadata_addresses_are_forbidden(address: str) -> None:
    """Link-local and metadata addresses are refused however they are written, also inside IPv6."""
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd00::1", "example.com"])
def test_private_addresses_are_fine(address: str) -> None:
    """The operator wrote the address, so private networks are reachable."""
    assert not is_forbidden(address)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_base_url_with_such_an_address_is_refused(address: str) -> None:
    """The settings cannot be loaded with a metadata address as the base URL."""
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    with pytest.raises(ValidationError, match="base_url"):
        HttpTarget(base_url=f"http://{host}/latest")


@pytest.mark.parametrize("host", ["2852039166", "169.254.43518", "127.1"])
def test_numbers_that_only_some_resolvers_read_as_addresses_are_refused(host: str) -> None:
    """Short and decimal forms of IPv4 addresses cannot hide a metadata address."""
    with pytest.raises(ValidationError, match="all four numbers"):
        HttpTarget(base_url=f"http://{host}/")


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"])
def test_the_socket_itself_refuses(address: str) -> None:
    """Even if a forbidden address got past every earlier check, no socket is made for it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(ForbiddenAddress, match="always refused"):
        safe_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))


class _Rebinding(ThreadedResolver):
    """Answers like the resolver of an attacker: a good address first, then a metadata address."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Both addresses for whatever name."""
        return [
            ResolveResult(hostname=host, host=text, port=port, family=socket.AF_INET, proto=6, flags=0)
            for text in ("127.0.0.1", "169.254.169.254")
        ]


async def test_a_name_is_refused_if_one_of_its_addresses_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a good and a metadata address is refused as a whole and nothing is sent."""
    monkeypatch.setattr("remediator.integrations._address.ThreadedResolver", _Rebinding)
    with pytest.raises(ForbiddenAddress):
        await SafeResolver().resolve("rebind.example")
    client = Client(timeout=2, max_response=1000, ca_file=None)
    with pytest.raises(PermanentError, match="always refused") as caught:
        await client.send("GET", "http://rebind.example/", headers={})
    assert caught.value.reason == "address"
    await client.close()


async def test_a_literal_address_is_refused_when_connecting() -> None:
    """The client refuses a literal metadata address by itself, without the check of the settings."""
    client = Client(timeout=2, max_response=1000, ca_file=None)
    with pytest.raises(PermanentError, match="always refused"):
        await asyncio.wait_for(client.send("GET", "http://169.254.169.254/latest", headers={}), 1)
    await client.close()
