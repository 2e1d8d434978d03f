"""Balances as several endpoints tell them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.solana.balance import Balance
from tests.integrations.solana.chain import cluster
from tests.integrations.solana.stages import SOL, treasury, wallet
from tests.integrations.support import looking


async def test_a_balance_is_what_the_poorest_endpoint_says(tmp_path: Path) -> None:
    """Wallet and treasury are read from every endpoint; where they differ, the least counts and the most is told."""
    async with cluster() as it:
        address = wallet(it)
        target = treasury(it, tmp_path, address)
        seen = await Balance(wallet="minting").read(target, looking())
        assert (seen["lamports"], seen["sol"], seen["endpoints"], seen["address"]) == (SOL, 1.0, 3, address)
        poor = {"lamports": 7, "owner": "1" * 32, "executable": False, "data": ["", "base64"]}
        it.nodes[1].lie["getAccountInfo"] = lambda right: {**right, "value": poor}
        seen = await Balance(wallet="treasury").read(target, looking())
        assert (seen["lamports"], seen["highest"]) == (7, 100 * SOL)
        await target.close()


async def test_one_endpoint_is_no_evidence(tmp_path: Path) -> None:
    """With one answer the balance is unknown, and an unknown wallet is refused."""
    async with cluster(nodes=2) as it:
        target = treasury(it, tmp_path, wallet(it))
        it.nodes[0].raw = lambda method: (429, "text/plain", b"") if method == "getAccountInfo" else None
        with pytest.raises(TemporaryError):
            await Balance(wallet="minting").read(target, looking())
        with pytest.raises(PermanentError):
            await Balance(wallet="other").read(target, looking())
        await target.close()


def test_a_wallet_is_named_and_permitted() -> None:
    """An address is no name, and the name is what the target must permit."""
    assert Balance(wallet="minting").needs() == {"wallets": "minting"}
    with pytest.raises(ValidationError):
        Balance(wallet="7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q")
