"""``solana.reconcile``: compare what left the treasury on chain with what the ledger says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.errors import PermanentError
from remediator.integrations.solana.target import TREASURY, SolanaTarget
from remediator.probe import Probe, ProbeContext


class Reconcile(Probe[SolanaTarget]):
    """Looks for payments of the treasury that the ledger does not know, and for paid transfers the chain does not show.

    The service does the same every hour by itself and pauses the target when something does not match.
    """

    def needs(self) -> Mapping[str, str]:
        """The treasury must be permitted."""
        return {"wallets": TREASURY}

    async def read(self, target: SolanaTarget, context: ProbeContext) -> Mapping[str, Any]:
        """Whether chain and ledger match, and what does not. Raises TemporaryError, PermanentError."""
        if context.ledger is None:
            raise PermanentError("there is no ledger here to compare with", reason="no_ledger")
        found = await target.mismatches(context.ledger, context.clock)
        told = [{"kind": each.kind, "signature": each.signature, "message": each.message} for each in found[:100]]
        return {"matches": not found, "count": len(found), "mismatches": told}
