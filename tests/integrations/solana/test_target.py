"""The settings of a treasury: what is missing, doubled or dangerous is refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.solana.target import SolanaTarget
from tests.integrations.solana.chain import cluster

WALLET = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q"
GOOD: dict[str, Any] = {
    "cluster": "devnet",
    "rpc_urls": ["https://one.example.com", "https://two.example.net/path?api-key=secret-key-of-a-provider"],
    "signer": {"keypair_file": "/etc/treasury.json"},
    "wallets": {"minting": WALLET},
    "caps": {"per_transfer": "5 SOL", "per_day": "10 SOL", "floor": "20 SOL"},
}


def test_a_whole_treasury_is_taken() -> None:
    """What the documentation shows is valid, in whole lamports, with a bounded fee."""
    target = SolanaTarget.model_validate(GOOD)
    assert target.caps is not None
    assert (target.caps.per_transfer, target.caps.floor, target.max_fee) == (5 * 10**9, 20 * 10**9, 100_000)
    assert target.wallet("minting") == WALLET


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rpc_urls": ["https://one.example.com"]}, "at least 2"),
        ({"rpc_urls": ["https://one.example.com/a", "https://one.example.com/b"]}, "twice"),
        ({"rpc_urls": ["https://one.example.com", "ftp://two.example.com"]}, "https://host"),
        ({"rpc_urls": ["https://one.example.com", "http://169.254.169.254"]}, "refused"),
        ({"cluster": "mainnet"}, "mainnet-beta"),
        ({"wallets": {"Minting": WALLET}}, "letters a-z"),
        ({"wallets": {"treasury": WALLET}}, "not treasury"),
        ({"wallets": {"a": WALLET, "b": WALLET}}, "one name"),
        ({"wallets": {"a": WALLET[:-3]}}, "32 bytes"),
        ({"wallets": {"a": "0x52908400098527886E0F7030069857D2E4169EE7"}}, "base58"),
        ({"wallets": {"a": WALLET[:-1] + "\u0430"}}, "base58"),
        ({"caps": None}, "needs caps"),
        ({"caps": {"per_transfer": 5, "per_day": "10 SOL", "floor": "1 SOL"}}, "text with its unit"),
        ({"caps": {"per_transfer": 5.5, "per_day": "10 SOL", "floor": "1 SOL"}}, "text with its unit"),
        ({"caps": {"per_transfer": "0 SOL", "per_day": "10 SOL", "floor": "1 SOL"}}, "greater than 0"),
        ({"caps": {"per_transfer": "5 SOL", "per_day": "10 SOL"}}, "floor"),
        ({"signer": {}}, "exactly one"),
        ({"signer": {"keypair_file": "/a", "export": True}}, "exactly one"),
        ({"signer": {"command": ["hsm"]}}, "address"),
        ({"signer": {"export": True, "address": WALLET}}, "nonce_account"),
        ({"signer": {"keypair_fd": "three"}}, "pattern"),
        ({"max_fee": "1 SOL"}, ""),
        ({"max_fee": "2 SOL"}, "less than"),
    ],
)
def test_what_is_dangerous_is_refused(change: dict[str, Any], says: str) -> None:
    """One endpoint, a doubled name, a float, a treasury without bounds: each is refused when the settings are read."""
    if not says:
        SolanaTarget.model_validate({**GOOD, **change})
        return
    with pytest.raises(ValidationError, match=says):
        SolanaTarget.model_validate({**GOOD, **change})


def test_nothing_secret_shows_itself() -> None:
    """Neither the names of endpoints nor a message about them hold the key in an address."""
    target = SolanaTarget.model_validate(GOOD)
    endpoint = target._endpoint(_Named, GOOD["rpc_urls"][1])  # type: ignore[arg-type]  # a stand-in that only has a name
    assert endpoint.name == "two.example.net"


class _Named:
    def __init__(self, name: str, address: str, *, timeout: float) -> None:
        self.name = name


async def test_every_endpoint_shows_its_cluster() -> None:
    """One endpoint of another cluster stops everything; one that is silent does not while two others answer."""
    async with cluster(nodes=3) as it:
        target = SolanaTarget.model_validate({**GOOD, "cluster": it.chain.genesis, "rpc_urls": it.urls})
        assert len(await target.same_cluster()) == 3
        it.nodes[0].raw = lambda method: (500, "text/plain", b"")
        assert len(await target.same_cluster()) == 2
        it.nodes[1].raw = it.nodes[0].raw
        with pytest.raises(TemporaryError) as few:
            await target.same_cluster()
        assert few.value.reason == "endpoints"
        it.nodes[0].raw = it.nodes[1].raw = lambda method: None
        it.nodes[2].genesis = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
        with pytest.raises(PermanentError) as wrong:
            await target.same_cluster()
        assert wrong.value.reason == "cluster"
        await target.close()
