"""The stages of solana actions for the contract suite."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from remediator.action import Change
from remediator.integrations.solana.target import SolanaTarget
from remediator.integrations.solana.top_up import TopUp
from remediator.ledger import Transfer
from tests.integrations.arrangements import Stage
from tests.integrations.solana.chain import Cluster, cluster, keypair_json
from tests.integrations.support import LEDGERS
from tests.money.memory import MemoryLedger

SOL = 10**9
KEY = "run-1.step0"
CAPS = {"per_transfer": "5 SOL", "per_day": "10 SOL", "floor": "20 SOL"}


def keypair_file(directory: Path, it: Cluster) -> str:
    """The treasury's keypair in a file of its owner."""
    path = directory / "treasury.json"
    if not path.exists():
        path.write_text(keypair_json(it.treasury))
        os.chmod(path, 0o400)
    return str(path)


def wallet(it: Cluster, lamports: int = SOL) -> str:
    """A new wallet with some money."""
    address = str(Pubkey.new_unique())
    it.chain.fund(address, lamports)
    return address


def settings(it: Cluster, directory: Path, address: str, **more: Any) -> dict[str, Any]:
    """The settings of a treasury that may pay one wallet, ``minting``."""
    return {
        "cluster": it.chain.genesis,
        "rpc_urls": it.urls,
        "signer": {"keypair_file": keypair_file(directory, it)},
        "wallets": {"minting": address},
        "caps": CAPS,
        "poll": "20ms",
        "request_timeout": "5s",
        "permit": {"actions": ["solana.*"], "wallets": ["minting"]},
        **more,
    }


def treasury(it: Cluster, directory: Path, address: str, **more: Any) -> SolanaTarget:
    """The target of these settings."""
    target = SolanaTarget.model_validate(settings(it, directory, address, **more))
    return target.model_copy(update={"name": "treasury"})


def reserve(
    ledger: MemoryLedger, action: TopUp, target: SolanaTarget, change: Change, *, key: str = KEY, effect: str = "e1"
) -> Transfer:
    """The money of a change, reserved as the licence transaction would."""
    spend = action.spend(target, change)
    transfer = ledger.reserve(spend, key=key, effect_id=effect, change=_plain(change))
    assert isinstance(transfer, Transfer), transfer
    return transfer


def _plain(change: Change) -> Mapping[str, Any]:
    return change.as_json()


@asynccontextmanager
async def top_up(directory: Path) -> AsyncIterator[Stage]:
    """A payment on a cluster of three endpoints; the effects are what landed."""
    async with cluster() as it:
        address = wallet(it)
        target = treasury(it, directory, address)
        action = TopUp.model_validate({"wallet": "minting", "amount": "1.5 SOL"})
        ledger = MemoryLedger(lambda: 1_800_000_000.0)
        LEDGERS.append(ledger)
        try:
            yield Stage(
                action=action,
                target=target,
                effects=lambda: len(it.paid(address)),
                converges=False,
                licence=lambda change: void(reserve(ledger, action, target, change)),
            )
        finally:
            LEDGERS.remove(ledger)
            await target.close()


def void(value: object) -> None:
    """Forget a value."""


STAGES = {"solana.top_up": top_up}
