"""One RPC endpoint over solana-py, in a form in which none of the library's holes can reach money.

Only ``AsyncClient.send_rpc_request`` is used, with types of our own: the typed methods return an error code as a
balance, raise what is no Exception, and hide retries. Addresses of endpoints may hold keys, so no message names one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.jsonrpc import JsonRpcRequest, SolanaJsonRpcError
from solders.transaction import VersionedTransaction

from remediator.action import canonical_json
from remediator.integrations.solana._chain import Account, ChainError, Epoch, Landed, Latest, Signature, Status

LIMIT = 4 * 1024 * 1024
"""Bytes of an answer; the longest that is asked for, a thousand lines of history, has less than one MiB."""
_FINAL = {"commitment": "finalized"}
Count = Annotated[int, Field(strict=True, ge=0, le=2**64 - 1)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=100)]


class _Answer(BaseModel):
    """What an endpoint answers; it may say more than we read, and must say what we read in the right type."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Context(_Answer):
    slot: Count


class _EpochInfo(_Answer):
    absoluteSlot: Count
    blockHeight: Count


class _Blockhash(_Answer):
    blockhash: Text
    lastValidBlockHeight: Count


class _LatestBlockhash(_Answer):
    context: _Context
    value: _Blockhash


class _AccountInfo(_Answer):
    lamports: Count
    owner: Text
    executable: bool
    data: tuple[str, str]


class _AccountAnswer(_Answer):
    context: _Context
    value: _AccountInfo | None


class _OneStatus(_Answer):
    slot: Count
    err: Any
    confirmationStatus: str | None


class _Statuses(_Answer):
    context: _Context
    value: Annotated[list[_OneStatus | None], Field(min_length=1, max_length=1)]


class _Fee(_Answer):
    slot: Count
    prioritizationFee: Count


class _Simulated(_Answer):
    err: Any


class _Simulation(_Answer):
    context: _Context
    value: _Simulated


class _Line(_Answer):
    signature: Text
    slot: Count
    err: Any
    memo: str | None = None


class _Loaded(_Answer):
    writable: list[Text] = []
    readonly: list[Text] = []


class _Meta(_Answer):
    err: Any
    fee: Count
    preBalances: list[Count]
    postBalances: list[Count]
    loadedAddresses: _Loaded | None = None


class _Transaction(_Answer):
    slot: Count
    transaction: tuple[str, str]
    meta: _Meta


class RpcEndpoint:
    """One endpoint. ``secret`` is its address; ``name`` is what people see of it."""

    def __init__(self, name: str, address: str, *, timeout: float, headers: dict[str, str] | None = None) -> None:
        self._name = name
        self._client = AsyncClient(
            address, timeout=timeout, extra_headers=headers, http2=False, max_transport_retries=0
        )
        # The library's session would read proxies and certificates from the environment, and reads without a limit.
        provider = self._client._provider
        self._unused = provider.session
        provider.session = httpx2.AsyncClient(
            timeout=httpx2.Timeout(timeout),
            trust_env=False,
            follow_redirects=False,
            transport=_BoundedTransport(trust_env=False),
        )
        self._timeout = timeout

    @property
    def name(self) -> str:
        """How people call it."""
        return self._name

    async def close(self) -> None:
        """Release the connections."""
        await self._unused.aclose()
        await self._client.close()

    async def ask(self, method: str, params: Sequence[Any], kind: Any) -> Any:
        """The result of a request, checked against ``kind``. Raises ChainError."""
        request = JsonRpcRequest(method=method, params=list(params))
        try:
            # The library's time-out is one for each read, and a server that drips would never meet it.
            async with asyncio.timeout(self._timeout):
                return await self._client.send_rpc_request(request, kind)
        except TimeoutError as error:
            raise self._silent(method, error) from None
        except SolanaJsonRpcError as error:
            limited = error.code in (429, -32429)
            said = str(error)[:200]
            raise ChainError(
                self._name,
                f"{method}: {said} ({error.code})",
                reason="rate_limited" if limited else "refused",
                code=error.code,
            ) from None
        except SolanaRpcException as error:
            raise self._silent(method, error.__cause__) from None
        except (ValidationError, ValueError, RecursionError) as error:
            told = f"{method}: the answer is not what it should be ({type(error).__name__})"
            raise ChainError(self._name, told, reason="malformed") from None

    def _silent(self, method: str, cause: BaseException | None) -> ChainError:
        if isinstance(cause, httpx2.HTTPStatusError):
            status = cause.response.status_code
            reason = "rate_limited" if status == 429 else "refused"
            return ChainError(self._name, f"{method}: HTTP {status}", reason=reason, code=status)
        return ChainError(self._name, f"{method}: no answer ({type(cause).__name__})", reason="unanswered")

    async def genesis(self) -> str:
        """The genesis hash."""
        return str(await self.ask("getGenesisHash", [], Text))

    async def epoch(self) -> Epoch:
        """Slot and height of the finalized chain."""
        info: _EpochInfo = await self.ask("getEpochInfo", [_FINAL], _EpochInfo)
        return Epoch(info.absoluteSlot, info.blockHeight)

    async def first_block(self) -> int:
        """The first slot of which there is a block."""
        return int(await self.ask("getFirstAvailableBlock", [], Count))

    async def latest(self) -> Latest:
        """A fresh blockhash."""
        found: _LatestBlockhash = await self.ask("getLatestBlockhash", [{"commitment": "confirmed"}], _LatestBlockhash)
        return Latest(found.value.blockhash, found.value.lastValidBlockHeight)

    async def account(self, address: str) -> Account:
        """An account as it is finalized."""
        params = [address, {**_FINAL, "encoding": "base64"}]
        found: _AccountAnswer = await self.ask("getAccountInfo", params, _AccountAnswer)
        if found.value is None:
            return Account(0, "", False, b"", found.context.slot)
        value = found.value
        return Account(value.lamports, value.owner, value.executable, self._bytes(value.data), found.context.slot)

    async def status(self, signature: str) -> Status:
        """The status of a signature, also of an old one."""
        params = [[signature], {"searchTransactionHistory": True}]
        found: _Statuses = await self.ask("getSignatureStatuses", params, _Statuses)
        one = found.value[0]
        if one is None:
            return Status(found.context.slot, False)
        final = one.confirmationStatus == "finalized"
        return Status(found.context.slot, True, final, one.slot, self._error(one.err))

    async def price(self, addresses: Sequence[str]) -> int:
        """The upper quartile of recent prices."""
        fees: list[_Fee] = await self.ask("getRecentPrioritizationFees", [list(addresses)], list[_Fee])
        prices = sorted(fee.prioritizationFee for fee in fees)
        return prices[len(prices) * 3 // 4] if prices else 0

    async def simulate(self, raw: bytes) -> str:
        """What would go wrong, or empty."""
        options = {"encoding": "base64", "sigVerify": True, "commitment": "confirmed"}
        found: _Simulation = await self.ask("simulateTransaction", [_text(raw), options], _Simulation)
        return self._error(found.value.err)

    async def send(self, raw: bytes) -> None:
        """Hand over a transaction."""
        options = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        await self.ask("sendTransaction", [_text(raw), options], Text)

    async def history(self, address: str, *, before: str = "", limit: int = 1000) -> Sequence[Signature]:
        """Signatures that name an address, newest first."""
        options: dict[str, Any] = {**_FINAL, "limit": limit}
        if before:
            options["before"] = before
        lines: list[_Line] = await self.ask("getSignaturesForAddress", [address, options], list[_Line])
        return [Signature(line.signature, line.slot, self._error(line.err), _memo(line.memo)) for line in lines]

    async def transaction(self, signature: str) -> Landed | None:
        """A finalized transaction."""
        options = {**_FINAL, "encoding": "base64", "maxSupportedTransactionVersion": 0}
        found: _Transaction | None = await self.ask("getTransaction", [signature, options], _Transaction | None)
        if found is None:
            return None
        meta = found.meta
        try:
            named = VersionedTransaction.from_bytes(self._bytes(found.transaction)).message.account_keys
        except ValueError:
            raise ChainError(self._name, "the transaction of an answer is none", reason="malformed") from None
        loaded = meta.loadedAddresses or _Loaded()
        keys = [*map(str, named), *loaded.writable, *loaded.readonly]
        if not len(keys) == len(meta.preBalances) == len(meta.postBalances):
            raise ChainError(self._name, "the balances of an answer are not those of its keys", reason="malformed")
        changes = {
            key: after - before
            for key, before, after in zip(keys, meta.preBalances, meta.postBalances, strict=True)
            if after != before
        }
        return Landed(found.slot, self._error(meta.err), meta.fee, changes)

    def _error(self, error: Any) -> str:
        try:
            return "" if error is None else canonical_json(error)
        except (ValueError, RecursionError):
            raise ChainError(self._name, "the error of an answer is no JSON", reason="malformed") from None

    def _bytes(self, data: tuple[str, str]) -> bytes:
        try:
            if data[1] != "base64":
                raise ValueError
            return base64.b64decode(data[0], validate=True)
        except (ValueError, binascii.Error):
            raise ChainError(self._name, "the data of an answer is not base64", reason="malformed") from None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _memo(text: str | None) -> str:
    """``[37] remediator:…`` as the RPC writes it, without the length."""
    if not text:
        return ""
    head, separator, rest = text.partition("] ")
    return rest if separator and head.startswith("[") else text


class _BoundedStream(httpx2.AsyncByteStream):
    """An answer of which no more than LIMIT bytes are read."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > LIMIT:
                raise httpx2.ReadError("the answer is too long")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class _BoundedTransport(httpx2.AsyncHTTPTransport):
    """The library's transport with bounded answers, which may not be compressed: a small one could be huge."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is compressed")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _BoundedStream(response.stream)
        return response
