"""The four naive ways to pay, as mutants of the teller: the simulation must catch every one of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediator.integrations.solana._carry import Teller, View
from remediator.integrations.solana._chain import ChainError, Endpoint
from remediator.ledger import Signed, Transfer


class RetriesOnTimeout(Teller):
    """Takes half a minute of silence for a no, and lets the step sign again."""

    async def _worry(self, transfer: Transfer, views: Sequence[View], detail: Mapping[str, Any]) -> Transfer:
        signed = transfer.signed
        if signed is not None and self.clock.now() - signed.at > 30.0:
            return await self._save(transfer.expire("timed out", self.clock.now()), detail)
        return transfer


class SavesAfterSend(Teller):
    """Keeps the signature once it is out: whoever dies in between has forgotten it."""

    async def _sign(self, transfer: Transfer, check: Callable[[], None]) -> Transfer:
        life = await self.writer.life(self.endpoints)
        draft = await self.writer.write(transfer, life, 0)
        signed = Signed(
            signature=draft.signature, raw=base64.b64encode(draft.raw).decode(), lifetime="blockhash",
            last_valid=life.last_valid, slot=life.slot, fee=draft.fee, at=self.clock.now(),
        )  # fmt: skip
        check()
        await self._send(replace(transfer, signed=signed), check)
        return await self._save(transfer.sign(signed), {})


class OneEndpointExpiry(Teller):
    """Asks one endpoint for the height and another one for the status, and believes them."""

    async def _proof(self, endpoint: Endpoint, signed: Signed) -> View:
        try:
            height = (await self.endpoints[0].epoch()).height
        except ChainError:
            height = 0
        status = await endpoint.status(signed.signature)
        if status.found:
            return View(endpoint.name, "landed" if status.finalized else "seen", status.slot, status.error)
        return View(endpoint.name, "gone" if height > signed.last_valid - 150 else "waiting")

    def _judge(self, transfer: Transfer, views: Sequence[View]) -> Transfer | None:
        if any(view.kind == "gone" for view in views) and not any(view.kind == "landed" for view in views):
            return transfer.expire("one endpoint says so", self.clock.now())
        return super()._judge(transfer, views)
