"""Carries one transfer to its end: sign once, keep, send the same bytes, and close by proof of two endpoints (D4).

It knows no keys and no library: signing is a ``Writer``, the chain a list of ``Endpoint``, the ledger a ``Ledger``. The
simulation runs this very code.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.errors import ActionError, Conflict, PermanentError, StateError, TemporaryError
from remediator.integrations.solana._chain import BLOCKHASH_LIFE, ChainError, Endpoint, Epoch, Landed, Status
from remediator.ledger import SIGNED, Ledger, Signed, Transfer, TransferState

T = TypeVar("T")
QUORUM = 2
"""Endpoints that must prove the same before a transfer is closed."""
SLACK = 150
"""Blocks that an honest endpoint may lag while another one gives a wrong end of life for its blockhash."""


class Life(NamedTuple):
    """What bounds the life of a transaction that is signed now: a blockhash, or the value of a nonce account."""

    blockhash: str
    last_valid: int
    slot: int
    nonce_account: str = ""


class Draft(NamedTuple):
    """A transaction as the signer made it; without a signature where somebody else signs."""

    raw: bytes
    signature: str
    fee: int


class Writer(Protocol):
    """Builds, compares with the plan and signs. Raises PermanentError when what was built is not what was planned."""

    async def life(self, endpoints: Sequence[Endpoint]) -> Life:
        """What the next transaction lives by."""
        ...

    async def write(self, transfer: Transfer, life: Life, price: int) -> Draft:
        """The signed transaction for ``transfer`` at ``price`` micro-lamports a compute unit (capped by the writer)."""
        ...

    async def spent(self, endpoint: Endpoint, signed: Signed) -> int | None:
        """The finalized slot in which ``endpoint`` sees another value in the nonce account; None while it does not."""
        ...



def memo(transfer: Transfer) -> str:
    """What the transaction says on chain: it ties the payment to the ledger and makes equal payments differ."""
    return f"remediator:{transfer.id}"


def pays(transfer: Transfer, found: Landed) -> bool:
    """Whether a transaction on chain moves exactly what ``transfer`` says, whoever signed it."""
    left = -found.changes.get(transfer.source, 0)
    return found.changes.get(transfer.destination) == transfer.amount and left - transfer.amount in (0, found.fee)


@dataclass(frozen=True, slots=True)
class View:
    """What one endpoint proves about a signature."""

    endpoint: str
    kind: str
    """``landed``, ``seen`` (not final yet), ``gone``, ``waiting``, ``behind``, ``pruned`` or ``dark``."""
    slot: int = 0
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it is kept in the audit."""
        return {"endpoint": self.endpoint, "kind": self.kind, "slot": self.slot, "error": self.error}


async def first_answer(endpoints: Sequence[Endpoint], ask: Callable[[Endpoint], Awaitable[T]], what: str) -> T:
    """The first usable answer. Raises TemporaryError when no endpoint has one."""
    said = []
    for endpoint in endpoints:
        try:
            return await ask(endpoint)
        except ChainError as error:
            said.append(str(error))
    raise TemporaryError(f"no endpoint could tell {what}: {'; '.join(said)}", reason="endpoints")


async def every_answer(endpoints: Sequence[Endpoint], ask: Callable[[Endpoint], Awaitable[T]]) -> list[T]:
    """All usable answers, asked one after the other."""
    found = []
    for endpoint in endpoints:
        try:
            found.append(await ask(endpoint))
        except ChainError:
            continue
    return found


async def blockhash_life(endpoints: Sequence[Endpoint]) -> Life:
    """A fresh blockhash with an end of life that no single endpoint can make too early. Raises TemporaryError.

    A transaction signed now cannot land later than 150 blocks after the block that is newest now; the newest of at
    least two endpoints, and some slack for one that lags, bound what the giver of the blockhash says.
    """
    ends: list[Epoch] = await every_answer(endpoints, lambda endpoint: endpoint.epoch())
    if len(ends) < QUORUM:
        message = f"{len(ends)} of {len(endpoints)} endpoints answered, and {QUORUM} must before money moves"
        raise TemporaryError(message, reason="endpoints")
    latest = await first_answer(endpoints, lambda endpoint: endpoint.latest(), "a blockhash")
    newest = max(end.height for end in ends)
    last_valid = max(latest.last_valid, newest + BLOCKHASH_LIFE + SLACK)
    return Life(latest.blockhash, last_valid, min(end.slot for end in ends))


def _landed(endpoint: Endpoint, status: Status) -> View:
    return View(endpoint.name, "landed" if status.finalized else "seen", status.slot, status.error)


@dataclass(kw_only=True)
class Teller:
    """Carries transfers of one source. ``patience`` is how long after signing a person is called."""

    ledger: Ledger
    endpoints: Sequence[Endpoint]
    writer: Writer
    clock: Clock
    poll: float = 2.0
    patience: float = 600.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)

    async def pay(self, transfer: Transfer, check: Callable[[], None]) -> Transfer:
        """Sign if nothing was signed, then send and look until it is closed or a person's.

        ``check`` raises once the licence ran out: nothing is signed or sent after that. Raises TemporaryError and
        PermanentError only while nothing is signed; otherwise it goes on until it is cancelled.
        """
        while True:
            try:
                if transfer.state is TransferState.RESERVED:
                    transfer = await self._sign(transfer, check)
                else:
                    transfer = await self.look(transfer)
            except (Conflict, StateError):
                transfer = await self._again(transfer)
            if transfer.state is not TransferState.LIVE:
                return transfer
            await self._send(transfer, check)
            await self.sleep(self.poll)

    async def _again(self, transfer: Transfer) -> Transfer:
        """The transfer as somebody else has moved it."""
        moved = await self.ledger.transfer(transfer.id)
        if moved.state is TransferState.RESERVED:
            raise TemporaryError(f"transfer {transfer.id} is being moved by another owner", reason="conflict")
        return moved

    async def _sign(self, transfer: Transfer, check: Callable[[], None]) -> Transfer:
        life = await self.writer.life(self.endpoints)
        price = await self._price(transfer)
        draft = await self.writer.write(transfer, life, price)
        if draft.signature:
            await self._simulate(draft.raw)
        signed = Signed(
            signature=draft.signature,
            raw=base64.b64encode(draft.raw).decode(),
            lifetime="nonce" if life.nonce_account else "blockhash",
            last_valid=life.last_valid,
            slot=life.slot,
            fee=draft.fee,
            at=self.clock.now(),
            nonce_account=life.nonce_account,
            nonce=life.blockhash if life.nonce_account else "",
        )
        moved = transfer.sign(signed)
        check()
        crashpoint("money.before_sign")
        detail = {"signature": signed.signature, "last_valid": signed.last_valid, "slot": signed.slot}
        kept = await self._save(moved, {**detail, "fee": signed.fee})
        crashpoint("money.after_sign")
        return kept

    async def _price(self, transfer: Transfer) -> int:
        addresses = (transfer.source, transfer.destination)
        prices = await every_answer(self.endpoints, lambda endpoint: endpoint.price(addresses))
        return max(prices, default=0)

    async def _simulate(self, raw: bytes) -> None:
        problem = await first_answer(self.endpoints, lambda endpoint: endpoint.simulate(raw), "what it would do")
        if problem == '"BlockhashNotFound"':
            # An endpoint that lags has not seen it yet; or all this took too long.
            raise TemporaryError("the endpoint that was asked does not know the blockhash", reason="blockhash")
        if problem:
            raise PermanentError(f"the chain would refuse the transfer: {problem}", reason="simulation")

    async def _send(self, transfer: Transfer, check: Callable[[], None]) -> None:
        """The same bytes to every endpoint. What an endpoint answers proves nothing and is not looked at."""
        signed = transfer.signed
        if signed is None or not signed.signature:
            return
        raw = base64.b64decode(signed.raw)
        for endpoint in self.endpoints:
            try:
                check()
            except ActionError:
                return  # The licence ran out: what is out may land or expire, and is looked at further.
            crashpoint("money.before_send")
            try:
                await endpoint.send(raw)
            except ChainError:
                continue
            crashpoint("money.after_send")

    async def look(self, transfer: Transfer) -> Transfer:
        """Ask every endpoint once and close ``transfer`` if two prove the same. Sends nothing.

        Raises Conflict when somebody else moved it.
        """
        if transfer.state in SIGNED and transfer.signed is not None and not transfer.signed.signature:
            transfer = await self._find(transfer)
        signed = transfer.signed
        if transfer.state not in SIGNED or signed is None:
            return transfer
        views = [await self._view(endpoint, signed) for endpoint in self.endpoints]
        detail = {"signature": signed.signature, "views": [view.as_json() for view in views]}
        moved = self._judge(transfer, views)
        if moved is None:
            return await self._worry(transfer, views, detail)
        crashpoint("money.before_close")
        kept = await self._save(moved, detail)
        crashpoint("money.after_close")
        return kept

    async def _find(self, transfer: Transfer) -> Transfer:
        """The transfer with the signature under which somebody else has sent it, once an endpoint shows one."""
        for endpoint in self.endpoints:
            try:
                for line in await endpoint.history(transfer.source, limit=200):
                    if line.memo == memo(transfer):
                        found = await endpoint.transaction(line.signature)
                        if found is not None and pays(transfer, found):
                            seen = transfer.seen_as(line.signature)
                            return await self._save(seen, {"signature": line.signature})
            except ChainError:
                continue
        return transfer

    def _judge(self, transfer: Transfer, views: Sequence[View]) -> Transfer | None:
        """The transfer closed, if enough endpoints prove the same and none contradicts."""
        now = self.clock.now()
        landed = {(view.slot, view.error) for view in views if view.kind == "landed"}
        if landed:
            if len(landed) > 1 or sum(view.kind == "landed" for view in views) < QUORUM:
                return None
            slot, error = landed.pop()
            return transfer.fail(f"on chain: {error}", slot, now) if error else transfer.settle(slot, now)
        if any(view.kind == "seen" for view in views) or sum(view.kind == "gone" for view in views) < QUORUM:
            return None
        return transfer.expire("two endpoints are past its life and have not seen it", now)

    async def _worry(self, transfer: Transfer, views: Sequence[View], detail: Mapping[str, Any]) -> Transfer:
        """Call a person when time has passed that proves something is wrong."""
        signed = transfer.signed
        if transfer.state is not TransferState.LIVE or signed is None:
            return transfer
        if self.clock.now() - signed.at < self.patience:
            return transfer
        said = ", ".join(f"{view.endpoint}: {view.kind}" for view in views)
        return await self._save(transfer.doubt(f"the endpoints prove nothing ({said})"), detail)

    async def _view(self, endpoint: Endpoint, signed: Signed) -> View:
        try:
            return await self._proof(endpoint, signed)
        except ChainError as error:
            return View(endpoint.name, "dark", error=error.reason)

    async def _proof(self, endpoint: Endpoint, signed: Signed) -> View:
        """What one endpoint proves: its height first, then a status that is at least as new, then its history."""
        name = endpoint.name
        if not signed.signature:
            return View(name, "waiting")
        past = await self._past(endpoint, signed)
        status = await endpoint.status(signed.signature)
        if status.found:
            return _landed(endpoint, status)
        if past is None:
            return View(name, "waiting", status.context_slot)
        if status.context_slot < past:
            return View(name, "behind", status.context_slot)
        if await endpoint.first_block() > signed.slot:
            return View(name, "pruned", past)
        return View(name, "gone", past)

    async def _past(self, endpoint: Endpoint, signed: Signed) -> int | None:
        """The slot in which the endpoint is past the life of ``signed``; None while it may land."""
        if signed.lifetime == "nonce":
            return await self.writer.spent(endpoint, signed)
        end = await endpoint.epoch()
        return end.slot if end.height > signed.last_valid else None

    async def _save(self, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
        return await self.ledger.save_transfer(transfer, detail)
