"""``solana.transaction``: what the endpoints know of a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from remediator.integrations.solana._carry import QUORUM, every_answer
from remediator.integrations.solana._units import base58, unbase58
from remediator.integrations.solana.target import SolanaTarget
from remediator.probe import Probe, ProbeContext


class Transaction(Probe[SolanaTarget]):
    """Asks every endpoint for the status of a signature, its history searched.

    `finalized` is true when two endpoints agree; that some do not know the signature proves nothing by itself.
    """

    signature: str = Field(max_length=88, description="The signature of the transaction, in base58.")

    @field_validator("signature")
    @classmethod
    def _signature(cls, text: str) -> str:
        if base58(unbase58(text, 64)) != text:
            raise ValueError("a signature has exactly one form in base58")
        return text

    def needs(self) -> Mapping[str, str]:
        """Nothing narrows it: what is on a public chain can be read by everybody."""
        return {}

    async def read(self, target: SolanaTarget, context: ProbeContext) -> Mapping[str, Any]:
        """Where it is and how many say so. Raises TemporaryError when fewer than two endpoints answer."""
        endpoints = await target.same_cluster()
        answers = await every_answer(endpoints, lambda endpoint: endpoint.status(self.signature))
        final = {(each.slot, each.error) for each in answers if each.found and each.finalized}
        agreed = len(final) == 1 and sum(each.finalized for each in answers) >= QUORUM
        slot, error = next(iter(final)) if agreed else (0, "")
        return {
            "finalized": agreed,
            "succeeded": agreed and not error,
            "slot": slot,
            "error": error,
            "known_to": sum(each.found for each in answers),
            "endpoints": len(answers),
        }
