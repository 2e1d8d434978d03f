"""``solana.balance``: how much a wallet or the treasury has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.solana._treasury import balances
from remediator.integrations.solana.target import TREASURY, SolanaTarget, WalletName
from remediator.probe import Probe, ProbeContext


class Balance(Probe[SolanaTarget]):
    """Reads the finalized balance of a named wallet from every endpoint; at least two must answer.

    Where they differ, `lamports` is the least that any of them says.
    """

    wallet: WalletName = Field(description="The name of the wallet in the settings, or `treasury`.")

    def needs(self) -> Mapping[str, str]:
        """The wallet must be permitted."""
        return {"wallets": self.wallet}

    async def read(self, target: SolanaTarget, context: ProbeContext) -> Mapping[str, Any]:
        """Lamports, the same in SOL, and how many endpoints said so. Raises TemporaryError, PermanentError."""
        address = await target.treasury() if self.wallet == TREASURY else target.wallet(self.wallet)
        found = await balances(await target.same_cluster(), address)
        least = min(account.lamports for account in found)
        return {
            "address": address,
            "lamports": least,
            "sol": least / 10**9,
            "highest": max(account.lamports for account in found),
            "slot": min(account.slot for account in found),
            "endpoints": len(found),
        }
