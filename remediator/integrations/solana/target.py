"""The settings of a target of kind ``solana``: a treasury, the wallets it may pay, its bounds, and its endpoints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from remediator.clock import Clock, Duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._address import is_forbidden
from remediator.integrations.solana._chain import ChainError
from remediator.integrations.solana._signer import CommandSigner, DescriptorSigner, ExportSigner, FileSigner
from remediator.integrations.solana._signer import Signer as Hand
from remediator.integrations.solana._units import Address, Lamports
from remediator.ledger import Caps as Bounds
from remediator.ledger import Ledger, Mismatch
from remediator.redact import register_secret
from remediator.target import Target

if TYPE_CHECKING:
    from remediator.integrations.solana._endpoint import RpcEndpoint

GENESIS = {
    "mainnet-beta": "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
    "testnet": "4uhcVJyU9pJkvQyS88uRDiswHScCKQY3pm3dTXUUF4dD",
    "devnet": "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG",
}
"""Genesis hashes of the public clusters; of any other one the settings say it themselves."""
TREASURY = "treasury"
"""What probes call the source; no wallet has this name."""
_WALLET = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def _wallet_name(name: str) -> str:
    if _WALLET.fullmatch(name) is None:
        raise ValueError("a wallet is named by the settings: letters a-z, digits and dashes; never an address")
    return name


WalletName = Annotated[str, Field(max_length=63), AfterValidator(_wallet_name)]
"""The name of a wallet in the settings."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Signer(_Part):
    """Who signs for the treasury; exactly one way."""

    keypair_file: str | None = Field(default=None, min_length=1, description="A keypair file with mode 0400.")
    keypair_fd: str | None = Field(
        default=None, pattern=r"^[0-9]{1,4}$", description="An open file descriptor that holds a keypair; read once."
    )
    command: list[str] | None = Field(
        default=None, min_length=1, max_length=20, description="A program that signs what it reads, in base64."
    )
    export: bool = Field(default=False, description="Sign nothing; show the transaction and wait for it on chain.")
    address: Address | None = Field(default=None, description="The treasury; needed with command and export.")
    timeout: Duration = Field(default=20.0, gt=0, le=300, description="How long command may take.")

    @model_validator(mode="after")
    def _one_way(self) -> Signer:
        ways = [self.keypair_file is not None, self.keypair_fd is not None, self.command is not None, self.export]
        if sum(ways) != 1:
            raise ValueError("write exactly one of keypair_file, keypair_fd, command and export")
        if self.address is None and (self.command is not None or self.export):
            raise ValueError("write the address of the treasury that signs")
        return self

    def hand(self) -> Hand:
        """The signer that these settings describe."""
        if self.keypair_file is not None:
            return FileSigner(self.keypair_file)
        if self.keypair_fd is not None:
            return DescriptorSigner(int(self.keypair_fd))
        if self.command is not None:
            return CommandSigner(self.command, self.address or "", seconds=self.timeout)
        return ExportSigner(self.address or "")


class Caps(_Part):
    """The most that may leave the treasury. A day is the last 24 hours."""

    per_transfer: Lamports = Field(gt=0, description="The most that one transfer may pay.")
    per_day: Lamports = Field(gt=0, description="The most that all transfers of a day may pay.")
    per_wallet_day: Lamports | None = Field(default=None, gt=0, description="The same for each wallet.")
    count_per_day: int = Field(default=10, ge=1, le=1000, description="How many transfers there may be in a day.")
    floor: Lamports = Field(description="What must always stay in the treasury.")

    def bounds(self) -> Bounds:
        """As the ledger takes them."""
        return Bounds(
            per_transfer=self.per_transfer,
            per_day=self.per_day,
            per_wallet_day=self.per_wallet_day,
            count_per_day=self.count_per_day,
            floor=self.floor,
        )


class SolanaTarget(Target):
    """A treasury on one cluster, seen through at least two independent RPC endpoints.

    Rules name a wallet; its address, the keys and the caps stand here.
    """

    lists: ClassVar[tuple[str, ...]] = ("wallets",)

    cluster: str = Field(description="mainnet-beta, testnet, devnet, or the genesis hash of any other cluster.")
    rpc_urls: list[str] = Field(
        min_length=2,
        max_length=8,
        description="RPC endpoints of different operators: two must agree, three are better.",
    )
    wallets: dict[str, Address] = Field(
        default_factory=dict, description="Wallets by the names that rules use. Only these can be paid."
    )
    signer: Signer | None = Field(default=None, description="Who signs; without it nothing can be paid.")
    caps: Caps | None = Field(default=None, description="The most that may be paid; without it nothing can be.")
    max_fee: Lamports = Field(
        default=100_000, ge=5_000, le=10**9, description="The most that the fee of one transfer may be.",
        validate_default=False,
    )  # fmt: skip
    nonce_account: Address | None = Field(
        default=None, description="A durable nonce account of the treasury: transactions then live until it moves on."
    )
    request_timeout: Duration = Field(default=10.0, gt=0, le=60, description="How long one request may take.")
    poll: Duration = Field(default=2.0, gt=0, le=60, description="How often a transfer that is out is looked at.")
    patience: Duration = Field(
        default=600.0, ge=1, le=86400, description="How long a transfer may be out before a person is called."
    )
    known: list[Annotated[str, Field(max_length=100)]] = Field(
        default_factory=list,
        description="Signatures of the treasury that are right although Remediator did not make them.",
    )
    since: int | None = Field(
        default=None,
        ge=0,
        description="Slot from which every payment must be in the ledger; from the first one in it if absent.",
    )

    _endpoints: list[RpcEndpoint] | None = PrivateAttr(default=None)
    _hand: Hand | None = PrivateAttr(default=None)
    _checked: bool = PrivateAttr(default=False)

    @field_validator("cluster")
    @classmethod
    def _cluster(cls, cluster: str) -> str:
        if cluster not in GENESIS and not 32 <= len(cluster) <= 44:
            raise ValueError(f"cluster is one of {', '.join(GENESIS)}, or a genesis hash in base58")
        return cluster

    @field_validator("rpc_urls")
    @classmethod
    def _rpc_urls(cls, urls: list[str]) -> list[str]:
        seen = set()
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or " " in url:
                raise ValueError("an RPC address looks like https://host or http://host:port/path")
            if is_forbidden(parts.hostname):
                raise ValueError(f"{parts.hostname} is a link-local or metadata address, which is always refused")
            if parts.netloc in seen:
                raise ValueError(f"{parts.hostname} stands here twice; two endpoints must be independent of each other")
            seen.add(parts.netloc)
        return urls

    @field_validator("wallets")
    @classmethod
    def _wallets(cls, wallets: dict[str, str]) -> dict[str, str]:
        for name in wallets:
            if _WALLET.fullmatch(name) is None or name == TREASURY:
                message = "write letters a-z, digits and dashes, and not treasury"
                raise ValueError(f'"{name[:60]}" is no name of a wallet; {message}')
        if len(set(wallets.values())) != len(wallets):
            raise ValueError("two names stand for one address; a wallet has one name")
        return wallets

    @model_validator(mode="after")
    def _whole(self) -> SolanaTarget:
        if self.signer is not None and self.caps is None:
            raise ValueError("a treasury that can sign needs caps: per_transfer, per_day and floor")
        if self.signer is not None and self.signer.export and self.nonce_account is None:
            raise ValueError("a transaction that people sign outlives a blockhash; export needs nonce_account")
        return self

    @property
    def genesis(self) -> str:
        """The genesis hash that every endpoint must have."""
        return GENESIS.get(self.cluster, self.cluster)

    def hand(self) -> Hand:
        """The signer. Raises PermanentError when there is none."""
        if self.signer is None:
            raise PermanentError(f'target "{self.name}" has no signer, so nothing can be paid', reason="signer")
        if self._hand is None:
            self._hand = self.signer.hand()
        return self._hand

    async def treasury(self) -> str:
        """The address that pays. Raises PermanentError, TemporaryError."""
        address = await self.hand().address()
        if self.signer is not None and self.signer.address not in (None, address):
            raise PermanentError("the key is not that of the address in the settings", reason="signer")
        return address

    def wallet(self, name: str) -> str:
        """The address of a wallet. Raises PermanentError."""
        address = self.wallets.get(name)
        if address is None:
            raise PermanentError(f'target "{self.name}" knows no wallet "{name}"', reason="no_wallet")
        return address

    async def endpoints(self) -> Sequence[RpcEndpoint]:
        """Every endpoint, made on first use."""
        if self._endpoints is None:
            # In a thread: the import would stop the whole service for a moment.
            kind = await asyncio.to_thread(_import_endpoint)
            if self._endpoints is None:
                self._endpoints = [self._endpoint(kind, url) for url in self.rpc_urls]
        return self._endpoints

    def _endpoint(self, kind: type[RpcEndpoint], url: str) -> RpcEndpoint:
        parts = urlsplit(url)
        # Paths and queries of providers are keys.
        register_secret(f"{parts.path}?{parts.query}" if parts.query else parts.path)
        register_secret(parts.query)
        return kind(parts.netloc.rpartition("@")[2], url, timeout=self.request_timeout)

    async def same_cluster(self) -> Sequence[RpcEndpoint]:
        """The endpoints that answer, after each has shown the genesis hash of the configured cluster.

        Raises PermanentError when one belongs to another cluster, TemporaryError when fewer than two answer.
        """
        found = []
        for endpoint in await self.endpoints():
            try:
                genesis = await endpoint.genesis()
            except ChainError:
                continue
            if genesis != self.genesis:
                message = f"{endpoint.name} is on another cluster than {self.cluster}; nothing is paid until it is not"
                raise PermanentError(message, reason="cluster")
            found.append(endpoint)
        if len(found) < 2:
            message = f"{len(found)} of {len(self.rpc_urls)} endpoints answered, and two must before money moves"
            raise TemporaryError(message, reason="endpoints")
        return found

    async def settle_open(self, ledger: Ledger, clock: Clock) -> None:
        """Look at what is out and that no run looks after; sends nothing."""
        from remediator.integrations.solana._treasury import settle_open

        await settle_open(self, ledger, clock)

    async def mismatches(self, ledger: Ledger, clock: Clock) -> Sequence[Mismatch]:
        """What the chain and the ledger disagree about."""
        from remediator.integrations.solana._treasury import mismatches

        return await mismatches(self, ledger, clock)

    async def close(self) -> None:
        """Release the connections."""
        endpoints, self._endpoints = self._endpoints, None
        for endpoint in endpoints or ():
            await endpoint.close()


def _import_endpoint() -> type[RpcEndpoint]:
    from remediator.integrations.solana._endpoint import RpcEndpoint

    return RpcEndpoint
