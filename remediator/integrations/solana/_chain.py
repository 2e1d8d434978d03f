"""The port to a Solana cluster: what one RPC endpoint is asked, and the plain values it answers with.

Commitment is ``finalized`` unless a verb says otherwise. Every verb raises ChainError when there is no usable answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

SYSTEM_PROGRAM = "11111111111111111111111111111111"
BLOCKHASH_LIFE = 150
"""Blocks after which a blockhash is too old to land (agave: MAX_PROCESSING_AGE)."""


class ChainError(Exception):
    """No usable answer of one endpoint. ``reason`` is a stable word: unanswered, rate_limited, refused or malformed.

    Whether a transaction that was sent with it arrived is unknown.
    """

    def __init__(self, endpoint: str, message: str, *, reason: str, code: int = 0) -> None:
        super().__init__(f"{endpoint}: {message}")
        self.reason = reason
        self.code = code


class Epoch(NamedTuple):
    """Where an endpoint's finalized chain ends."""

    slot: int
    height: int


class Latest(NamedTuple):
    """A fresh blockhash (confirmed) and the last block height at which it may land."""

    blockhash: str
    last_valid: int


class Account(NamedTuple):
    """An account as of ``slot``; one that does not exist has no lamports and no owner."""

    lamports: int
    owner: str
    executable: bool
    data: bytes
    slot: int


class Status(NamedTuple):
    """What an endpoint knows of a signature, its history searched. ``error`` is canonical JSON, or empty."""

    context_slot: int
    found: bool
    finalized: bool = False
    slot: int = 0
    error: str = ""


class Signature(NamedTuple):
    """One line of the history of an address; ``memo`` without the length that the RPC writes before it."""

    signature: str
    slot: int
    error: str
    memo: str


class Landed(NamedTuple):
    """A transaction on chain: where, its error, its fee, and by how many lamports it changed which account."""

    slot: int
    error: str
    fee: int
    changes: Mapping[str, int]


class Endpoint(Protocol):
    """One RPC endpoint. ``name`` is what logs and evidence say; an address may hold a secret."""

    @property
    def name(self) -> str:
        """How people call it."""
        ...

    async def genesis(self) -> str:
        """The genesis hash, which says which cluster this is."""
        ...

    async def epoch(self) -> Epoch:
        """Slot and block height."""
        ...

    async def first_block(self) -> int:
        """The first slot of which this endpoint still has a block."""
        ...

    async def latest(self) -> Latest:
        """A fresh blockhash, at ``confirmed``."""
        ...

    async def account(self, address: str) -> Account:
        """An account."""
        ...

    async def status(self, signature: str) -> Status:
        """The status of a signature; also not finalized ones are found."""
        ...

    async def price(self, addresses: Sequence[str]) -> int:
        """Micro-lamports for a compute unit that were paid lately for writing to these accounts: the upper quartile."""
        ...

    async def simulate(self, raw: bytes) -> str:
        """What would go wrong now with a signed transaction (canonical JSON of the error), or empty; ``confirmed``."""
        ...

    async def send(self, raw: bytes) -> None:
        """Hand over a signed transaction, without preflight and without the endpoint's own retries."""
        ...

    async def history(self, address: str, *, before: str = "", limit: int = 1000) -> Sequence[Signature]:
        """Signatures that name an address, newest first, older than ``before``."""
        ...

    async def transaction(self, signature: str) -> Landed | None:
        """A finalized transaction; None when this endpoint does not have it."""
        ...
