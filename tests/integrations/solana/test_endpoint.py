"""One endpoint, whatever it answers: every known hole of the library is closed, and none can be mistaken for money."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from remediator.integrations.solana._chain import ChainError
from remediator.integrations.solana._endpoint import LIMIT, RpcEndpoint
from tests.integrations.solana.chain import Cluster, cluster
from tests.integrations.support import Received, Wire, reply, wire

ADDRESS = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q"
SIGNATURE = "5YT5seZmKAfmCt8vKytAcgBsK5KDxXfH8H43rBHcof9S1xw8aHTNdpWQb8insWdcebJpUbHmNsk8KLw4CsFxtAaf"

ASK: dict[str, Callable[[RpcEndpoint], Awaitable[object]]] = {
    "genesis": lambda e: e.genesis(),
    "epoch": lambda e: e.epoch(),
    "first_block": lambda e: e.first_block(),
    "latest": lambda e: e.latest(),
    "account": lambda e: e.account(ADDRESS),
    "status": lambda e: e.status(SIGNATURE),
    "price": lambda e: e.price([ADDRESS]),
    "simulate": lambda e: e.simulate(b"x"),
    "send": lambda e: e.send(b"x"),
    "history": lambda e: e.history(ADDRESS),
    "transaction": lambda e: e.transaction(SIGNATURE),
}


def _error(code: int, data: object = None) -> bytes:
    told = {"code": code, "message": "no"} if data is None else {"code": code, "message": "no", "data": data}
    return reply(200, json.dumps({"jsonrpc": "2.0", "id": "1", "error": told}).encode())


def _result(value: object) -> bytes:
    return reply(200, json.dumps({"jsonrpc": "2.0", "id": "1", "result": value}).encode())


ANSWERS = {
    # These three without data raise what is no Exception in the typed methods of the library.
    "-32002 without data": (_error(-32002), "refused"),
    "-32005 without data": (_error(-32005), "refused"),
    "-32016 without data": (_error(-32016), "refused"),
    "-32005 with data": (_error(-32005, {"numSlotsBehind": 42}), "refused"),
    # A code that the library does not know came back as the result itself: a balance of 429.
    "429 as an error": (_error(429), "rate_limited"),
    "-32429 as an error": (_error(-32429), "rate_limited"),
    "an unknown code": (_error(7), "refused"),
    "HTTP 429": (reply(429, b"slow down", "text/plain"), "rate_limited"),
    "HTTP 503": (reply(503, b"{}"), "refused"),
    "HTTP 302": (reply(302, b"", extra="Location: http://127.0.0.1:1/\r\n"), "refused"),
    "HTML": (reply(200, b"<html>maintenance</html>", "text/html"), "malformed"),
    "nothing": (reply(200, b""), "malformed"),
    "a list": (reply(200, b"[]"), "malformed"),
    "half of it": (reply(200, b'{"jsonrpc":"2.0","id":"1","resu'), "malformed"),
    "both": (reply(200, b'{"jsonrpc":"2.0","id":"1","result":1,"error":{"code":1,"message":"x"}}'), "malformed"),
    "neither": (reply(200, b'{"jsonrpc":"2.0","id":"1"}'), "malformed"),
    "deep": (reply(200, b'{"jsonrpc":"2.0","id":"1","result":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "malformed"),
    "a wrong type": (_result({"value": "many", "context": {"slot": "now"}}), "malformed"),
    "a number below zero": (_result(-1), "malformed"),
    "a number too large": (_result(2**64), "malformed"),
    "a fraction": (_result(1.5), "malformed"),
    "a bool": (_result(True), "malformed"),
    "too long": (reply(200, b" " * (LIMIT + 1)), "unanswered"),
    "compressed": (reply(200, b"x", extra="Content-Encoding: gzip\r\n"), "unanswered"),
    "a closed connection": (None, "unanswered"),
}


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
async def test_no_answer_but_a_right_one_is_taken(answer: str) -> None:
    """Whatever an endpoint answers instead, every verb raises the one error of the port with a reason, and no other."""
    raw, reason = ANSWERS[answer]
    async with wire(lambda request: raw) as it:
        endpoint = RpcEndpoint("one", it.url, timeout=2.0)
        try:
            for name, ask in ASK.items():
                with pytest.raises(ChainError) as caught:
                    await ask(endpoint)
                assert caught.value.reason == reason, name
                assert it.url not in str(caught.value)
        finally:
            await endpoint.close()
        assert len(it.received) == len(ASK), "one request for one question: nothing is repeated in secret"


async def test_a_server_that_hangs_or_drips_costs_one_time_out() -> None:
    """Neither silence nor one byte now and then keeps a question longer than its time; nothing is asked twice."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    async with wire(lambda request: Wire.HANG) as silent:
        for url in (f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", silent.url):
            endpoint = RpcEndpoint("one", url, timeout=0.3)
            began = loop.time()
            with pytest.raises(ChainError) as caught:
                await endpoint.epoch()
            assert caught.value.reason == "unanswered"
            assert loop.time() - began < 1.5
            await endpoint.close()
        assert len(silent.received) == 1
    server.close()


async def test_a_closed_port_is_no_answer() -> None:
    """Nobody listens: an answer of the port's own, at once."""
    async with wire() as it:
        url = it.url
    endpoint = RpcEndpoint("one", url, timeout=2.0)
    with pytest.raises(ChainError) as caught:
        await endpoint.epoch()
    assert caught.value.reason == "unanswered"
    await endpoint.close()


async def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment sees nothing of what is asked."""
    async with wire() as proxy, wire(lambda request: _result("genesis")) as it:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        endpoint = RpcEndpoint("one", it.url, timeout=2.0)
        assert await endpoint.genesis() == "genesis"
        await endpoint.close()
        assert not proxy.received


async def test_what_is_sent_is_what_was_meant() -> None:
    """A transaction leaves without preflight and without retries of the endpoint; reads name their commitment."""
    async with wire(lambda request: _result("x" * 10)) as it:
        endpoint = RpcEndpoint("one", it.url, timeout=2.0)
        await endpoint.send(b"\1\2")
        await endpoint.close()
        (request,) = it.received
        options = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        assert json.loads(request.body)["params"] == ["AQI=", options]
        assert isinstance(request, Received)


async def test_a_real_chain_is_read_as_it_is() -> None:
    """Against the virtual machine: balances, heights, statuses and history come through as plain values."""
    async with cluster(nodes=1) as it:
        await _read(it)


async def _read(it: Cluster) -> None:
    endpoint = RpcEndpoint("one", it.nodes[0].url, timeout=2.0)
    treasury = str(it.treasury.pubkey())
    assert await endpoint.genesis() == it.chain.genesis
    end, latest = await endpoint.epoch(), await endpoint.latest()
    assert end.slot == end.height
    assert end.height < latest.last_valid <= it.chain.slot + 150
    account = await endpoint.account(treasury)
    assert (account.lamports, account.owner, account.executable, account.data) == (
        100 * 10**9, "11111111111111111111111111111111", False, b"",
    )  # fmt: skip
    nobody = await endpoint.account(ADDRESS)
    assert (nobody.lamports, nobody.owner) == (0, "")
    assert not (await endpoint.status(SIGNATURE)).found
    assert await endpoint.history(treasury) == []
    assert await endpoint.transaction(SIGNATURE) is None
    assert await endpoint.price([treasury]) == 0
    await endpoint.close()
