"""A Solana cluster for tests: the real virtual machine (LiteSVM) behind JSON-RPC endpoints over real HTTP, with faults.

Blocks come by the clock, one each ``slot_time`` seconds; a transaction lands in the next one, unless a fault says
otherwise, and only while its blockhash lives (150 blocks) or its nonce is the one in the account. Every endpoint
(``Node``) sees the same chain in its own way: later, shortened, falsified, or not at all.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from solders.hash import Hash
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import create_nonce_account
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

FINAL = 32
LIFE = 150
START = 1000
SYSTEM = "11111111111111111111111111111111"


@dataclass
class Landed:
    """A transaction in the chain."""

    slot: int
    raw: bytes
    signature: str
    error: Any
    fee: int
    before: list[int]
    after: list[int]
    keys: list[str]
    memo: str


@dataclass
class Chain:
    """The truth behind every endpoint."""

    slot_time: float = 0.01
    genesis: str = str(Hash(hashlib.sha256(b"tests").digest()))
    landed: list[Landed] = field(default_factory=list)
    arrived: list[bytes] = field(default_factory=list)
    """Every transaction that any endpoint was sent, copies included."""
    late: float = 0.0
    """Seconds that a transaction takes to reach a leader."""
    drop: Callable[[bytes], bool] = lambda raw: False
    price: int = 0

    def __post_init__(self) -> None:
        self.vm = LiteSVM().with_blockhash_check(False)
        self._began = asyncio.get_running_loop().time()
        self._blockhash_slot: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.jump = 0

    @property
    def slot(self) -> int:
        """The newest slot; every slot has a block, so it is the height too."""
        return START + self.jump + int((asyncio.get_running_loop().time() - self._began) / self.slot_time)

    def blockhash(self, slot: int) -> str:
        """The blockhash of a slot."""
        text = str(Hash(hashlib.sha256(f"{self.genesis}{slot}".encode()).digest()))
        self._blockhash_slot[text] = slot
        return text

    def fund(self, address: str, lamports: int) -> None:
        """Lamports from nowhere, before anything else happens."""
        self.vm.airdrop(Pubkey.from_string(address), lamports)

    def balance(self, address: str) -> int:
        """What an account has now."""
        return self.vm.get_balance(Pubkey.from_string(address)) or 0

    def alive(self, transaction: VersionedTransaction) -> bool:
        """Whether a transaction may land now."""
        message = transaction.message
        value = str(message.recent_blockhash)
        if value in self._blockhash_slot:
            return self.slot - self._blockhash_slot[value] <= LIFE
        keys = message.account_keys
        first = message.instructions[0]
        if str(keys[first.program_id_index]) != SYSTEM or bytes(first.data)[:4] != b"\4\0\0\0":
            return False
        account = self.vm.get_account(keys[bytes(first.accounts)[0]])
        return account is not None and str(Hash.from_bytes(bytes(account.data)[40:72])) == value

    def take(self, raw: bytes) -> None:
        """A transaction that an endpoint was sent goes to the leader, unless it is lost on its way."""
        self.arrived.append(raw)
        if not self.drop(raw):
            task = asyncio.get_running_loop().create_task(self._arrive(raw, self.late))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _arrive(self, raw: bytes, late: float) -> None:
        await asyncio.sleep(late)
        self.land(raw)

    def land(self, raw: bytes) -> None:
        """Let it land, once, if it may."""
        transaction = VersionedTransaction.from_bytes(raw)
        signature = str(transaction.signatures[0])
        if any(each.signature == signature for each in self.landed) or not self.alive(transaction):
            return
        keys = list(transaction.message.account_keys)
        before = [self.vm.get_balance(key) or 0 for key in keys]
        self.vm.expire_blockhash()
        result = self.vm.send_transaction(transaction)
        failed = isinstance(result, FailedTransactionMetadata)
        meta = result.meta() if isinstance(result, FailedTransactionMetadata) else result
        if failed and str(meta.signature()) != signature:
            return  # It could not even pay its fee, so no block holds it.
        memo = next((bytes(i.data).decode() for i in transaction.message.instructions if _is_memo(transaction, i)), "")
        self.landed.append(
            Landed(
                slot=self.slot, raw=raw, signature=signature,
                error={"InstructionError": [2, {"Custom": 1}]} if failed else None,
                fee=before[0] - (self.vm.get_balance(keys[0]) or 0) if failed else _fee(before, self.vm, keys),
                before=before, after=[self.vm.get_balance(key) or 0 for key in keys],
                keys=[str(key) for key in keys], memo=memo,
            )
        )  # fmt: skip

    def nonce(self, authority: Keypair) -> str:
        """A nonce account of ``authority``."""
        account = Keypair()
        steps = create_nonce_account(authority.pubkey(), account.pubkey(), authority.pubkey(), 2_000_000)
        recent = Hash.from_string(self.blockhash(self.slot))
        message = Message.new_with_blockhash(list(steps), authority.pubkey(), recent)
        transaction = VersionedTransaction(message, [authority, account])
        assert not isinstance(self.vm.send_transaction(transaction), FailedTransactionMetadata)
        return str(account.pubkey())

    async def quiet(self) -> None:
        """Until nothing is on its way any more."""
        while self._tasks:
            await asyncio.sleep(self.slot_time)


def _is_memo(transaction: VersionedTransaction, instruction: Any) -> bool:
    return str(transaction.message.account_keys[instruction.program_id_index]).startswith("Memo")


def _fee(before: list[int], vm: LiteSVM, keys: list[Pubkey]) -> int:
    # Whatever left all accounts together is the fee: transfers keep the sum.
    return sum(before) - sum(vm.get_balance(key) or 0 for key in keys)


class RpcError(Exception):
    """An error that JSON-RPC answers."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.data = code, data


@dataclass
class Node:
    """One endpoint. Its faults are plain attributes that a test sets."""

    chain: Chain
    name: str = ""
    lag: int = 0
    first: int = 0
    genesis: str = ""
    raw: Callable[[str], tuple[int, str, bytes] | None] = lambda method: None
    """Instead of an answer: status, content type and body for a method, or None."""
    lose: Callable[[str], bool] = lambda method: False
    """Carry the request out and close the connection without an answer."""
    lie: dict[str, Any] = field(default_factory=dict)
    """Method → the result to give, or a function of the right result."""
    calls: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def slot(self, params: Any) -> int:
        """The slot this endpoint is at, for the commitment in ``params``."""
        options = next((each for each in params or [] if isinstance(each, dict)), {})
        now = self.chain.slot - self.lag
        return now - {"finalized": FINAL, "confirmed": 2}.get(options.get("commitment", "finalized"), 0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One JSON-RPC call."""
        try:
            body = await request.json()
        except ConnectionError:  # Who asked has died in the middle of its question.
            return web.Response()
        method, params = body["method"], body.get("params") or []
        self.calls.append(method)
        instead = self.raw(method)
        if instead is not None:
            return web.Response(status=instead[0], content_type=instead[1], body=instead[2])
        head = {"jsonrpc": "2.0", "id": body["id"]}
        try:
            result = self.answer(method, params)
            if method in self.lie:
                lie = self.lie[method]
                result = lie(result) if callable(lie) else lie
            told: dict[str, Any] = {**head, "result": result}
        except RpcError as error:
            wrong = {"code": error.code, "message": str(error)}
            told = {**head, "error": wrong if error.data is None else {**wrong, "data": error.data}}
        if self.lose(method):
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response(told)

    def answer(self, method: str, params: list[Any]) -> Any:
        """The right result of a method, as this endpoint sees the chain."""
        answer = getattr(self, f"_{method}", None)
        if answer is None:
            raise RpcError(-32601, "Method not found")
        return answer(params)

    def _seen(self) -> list[Landed]:
        return [each for each in self.chain.landed if each.slot <= self.chain.slot - self.lag]

    def _getGenesisHash(self, params: list[Any]) -> Any:
        return self.genesis or self.chain.genesis

    def _getEpochInfo(self, params: list[Any]) -> Any:
        slot = self.slot(params)
        return {
            "absoluteSlot": slot, "blockHeight": slot, "epoch": 0, "slotIndex": slot, "slotsInEpoch": 432000,
            "transactionCount": len(self.chain.landed),
        }  # fmt: skip

    def _getSlot(self, params: list[Any]) -> Any:
        return self.slot(params)

    def _getFirstAvailableBlock(self, params: list[Any]) -> Any:
        return self.first

    def _getLatestBlockhash(self, params: list[Any]) -> Any:
        slot = self.slot(params)
        value = {"blockhash": self.chain.blockhash(slot), "lastValidBlockHeight": slot + LIFE}
        return {"context": {"slot": slot}, "value": value}

    def _getAccountInfo(self, params: list[Any]) -> Any:
        slot, key = self.slot(params), Pubkey.from_string(params[0])
        account = self.chain.vm.get_account(key)
        lamports = 0 if account is None else account.lamports
        for each in self.chain.landed:
            if each.slot > slot and params[0] in each.keys:
                position = each.keys.index(params[0])
                lamports -= each.after[position] - each.before[position]
        value = None
        if account is not None:
            data = base64.b64encode(bytes(account.data)).decode()
            value = {
                "lamports": lamports, "owner": str(account.owner), "executable": account.executable,
                "data": [data, "base64"], "rentEpoch": 2**64 - 1, "space": len(account.data),
            }  # fmt: skip
        return {"context": {"apiVersion": "3.0.0", "slot": slot}, "value": value}

    def _getSignatureStatuses(self, params: list[Any]) -> Any:
        slot = self.chain.slot - self.lag
        found = []
        for signature in params[0]:
            each = next((one for one in self._seen() if one.signature == signature and one.slot >= self.first), None)
            found.append(None if each is None else self._status(each, slot))
        return {"context": {"slot": slot}, "value": found}

    def _status(self, each: Landed, slot: int) -> Any:
        final = each.slot <= slot - FINAL
        return {
            "slot": each.slot, "confirmations": None if final else slot - each.slot, "err": each.error,
            "status": {"Ok": None} if each.error is None else {"Err": each.error},
            "confirmationStatus": "finalized" if final else "confirmed" if each.slot <= slot - 2 else "processed",
        }  # fmt: skip

    def _getRecentPrioritizationFees(self, params: list[Any]) -> Any:
        return [{"slot": self.slot([]) - n, "prioritizationFee": self.chain.price} for n in range(20)]

    def _simulateTransaction(self, params: list[Any]) -> Any:
        transaction = VersionedTransaction.from_bytes(base64.b64decode(params[0]))
        result = self.chain.vm.simulate_transaction(transaction)
        failed = isinstance(result, FailedTransactionMetadata)
        error: Any = {"InstructionError": [2, {"Custom": 1}]} if failed else None
        if not self.chain.alive(transaction):
            error = "BlockhashNotFound"
        return {"context": {"slot": self.slot(params)}, "value": {"err": error, "logs": []}}

    def _sendTransaction(self, params: list[Any]) -> Any:
        raw = base64.b64decode(params[0])
        self.chain.take(raw)
        return str(VersionedTransaction.from_bytes(raw).signatures[0])

    def _getSignaturesForAddress(self, params: list[Any]) -> Any:
        options = params[1] if len(params) > 1 else {}
        slot = self.slot(params)
        known = [each for each in reversed(self.chain.landed) if self.first <= each.slot <= slot]
        lines = [each for each in known if params[0] in each.keys]
        if options.get("before"):
            names = [each.signature for each in lines]
            lines = lines[names.index(options["before"]) + 1 :]
        return [
            {
                "signature": each.signature, "slot": each.slot, "err": each.error, "blockTime": None,
                "memo": f"[{len(each.memo)}] {each.memo}" if each.memo else None, "confirmationStatus": "finalized",
            }
            for each in lines[: options.get("limit", 1000)]
        ]  # fmt: skip

    def _getTransaction(self, params: list[Any]) -> Any:
        each = next((one for one in self._seen() if one.signature == params[0] and one.slot >= self.first), None)
        if each is None or each.slot > self.slot(params):
            return None
        return {
            "slot": each.slot, "blockTime": None, "version": "legacy",
            "transaction": [base64.b64encode(each.raw).decode(), "base64"],
            "meta": {
                "err": each.error, "fee": each.fee, "preBalances": each.before, "postBalances": each.after,
                "loadedAddresses": {"writable": [], "readonly": []}, "logMessages": [],
            },
        }  # fmt: skip


@dataclass
class Cluster:
    """A chain, its endpoints, a treasury with its keypair file, and wallets."""

    chain: Chain
    nodes: list[Node]
    treasury: Keypair

    @property
    def urls(self) -> list[str]:
        """The addresses of the endpoints."""
        return [node.url for node in self.nodes]

    def paid(self, address: str) -> list[Landed]:
        """What landed and raised the balance of an address."""
        return [
            each
            for each in self.chain.landed
            if address in each.keys and each.after[each.keys.index(address)] > each.before[each.keys.index(address)]
        ]


@contextlib.asynccontextmanager
async def cluster(*, nodes: int = 3, slot_time: float = 0.005, treasury: int = 100 * 10**9) -> AsyncIterator[Cluster]:
    """A running cluster with that many endpoints."""
    chain = Chain(slot_time=slot_time)
    pair = Keypair()
    chain.fund(str(pair.pubkey()), treasury)
    it = Cluster(chain, [Node(chain, f"node{number}") for number in range(nodes)], pair)
    runners = []
    try:
        for node in it.nodes:
            app = web.Application()
            app.router.add_post("/", node.handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            node.port = runner.addresses[0][1]
        yield it
    finally:
        for runner in runners:
            await runner.cleanup()
        await chain.quiet()


def keypair_json(pair: Keypair) -> str:
    """A keypair file as the Solana tools write it."""
    return json.dumps(list(bytes(pair)))
