"""Tests of the probe http.get, against a real server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from pydantic import ValidationError

from remediator.action import canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.http.get import Get
from remediator.integrations.http.target import HttpTarget
from tests.integrations.support import Wire, looking, reply, wire
from tests.servers import free_port


def _target(it: Wire, **settings: object) -> HttpTarget:
    return HttpTarget.model_validate({"base_url": it.url, "timeout": "1s", **settings})


async def test_json_becomes_evidence() -> None:
    """A JSON answer is readable as probes.<id>.json, with status and content type."""
    async with wire(lambda request: reply(body=b'{"components": {"open": 0}}')) as it:
        target = _target(it)
        evidence = await Get(path="/health/detailed", query={"q": "a b&c"}).read(target, looking())
        await target.close()
    assert evidence["status"] == 200
    assert evidence["json"] == {"components": {"open": 0}}
    assert evidence["headers"] == {"content-type": "application/json"}
    assert (evidence["text"], evidence["truncated"], evidence["seconds"]) == ("", False, 0.0)
    assert it.received[0].line == b"GET /health/detailed?q=a%20b%26c HTTP/1.1"


@pytest.mark.parametrize("status", [204, 400, 404, 500, 503])
async def test_every_status_is_evidence(status: int) -> None:
    """A failing service is what a probe is there to see: no error, but a status."""
    async with wire(lambda request: reply(status, b"" if status == 204 else b'{"ok": false}')) as it:
        target = _target(it)
        assert (await Get(path="/health").read(target, looking()))["status"] == status
        await target.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """A server cannot send Remediator to another address."""
    async with wire(lambda request: reply(status, b"", extra="Location: http://127.0.0.1:1/\r\n")) as it:
        target = _target(it)
        with pytest.raises(PermanentError, match="redirect"):
            await Get(path="/health").read(target, looking())
        await target.close()
    assert len(it.received) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\u0000"}',
        b"[" * 100_000,
        b'{"a": ' + b"1" * 5000 + b"}",
        b"\xff\xfe",
        b"a\x00b",
    ],
)
async def test_hostile_bodies_become_storable_text(body: bytes) -> None:
    """Whatever a server sends, evidence is JSON that can be stored and hashed."""
    async with wire(lambda request: reply(body=body)) as it:
        target = _target(it)
        evidence = await Get(path="/x").read(target, looking())
        await target.close()
    assert evidence["json"] is None
    assert "\x00" not in evidence["text"]
    canonical_json(evidence).encode()


async def test_an_answer_is_bounded() -> None:
    """An endless answer is cut at max_response and says so; cut JSON is never read as JSON."""
    async with wire(lambda request: reply(body=json.dumps("x" * 2_000_000).encode())) as it:
        target = _target(it, max_response="10KiB")
        evidence = await Get(path="/x").read(target, looking())
        await target.close()
    assert evidence["truncated"]
    assert evidence["json"] is None
    assert len(evidence["text"]) == 10 * 1024


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """A server that compresses without being asked cannot blow up the memory."""
    packed = gzip.compress(b'{"ok": true}')
    async with wire(lambda request: reply(body=packed, extra="Content-Encoding: gzip\r\n")) as it:
        target = _target(it)
        evidence = await Get(path="/x").read(target, looking())
        await target.close()
    assert it.received[0].headers["accept-encoding"] == "identity"
    assert evidence["json"] is None


async def test_an_endless_answer_is_left() -> None:
    """A server that never stops sending is left as soon as the limit is reached, not at the time-out."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Type: text/plain\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()
        except ConnectionError:
            left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = HttpTarget.model_validate(
        {
            "base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            "timeout": "20s",
            "max_response": "64KiB",
        }
    )
    evidence = await asyncio.wait_for(Get(path="/x").read(target, looking()), 5)
    assert evidence["truncated"]
    await asyncio.wait_for(left.wait(), 5)
    await target.close()
    server.close()
    await server.wait_closed()


async def test_a_refused_connection_is_temporary() -> None:
    """Nothing listens: the evidence is unknown for now, and the message says that nothing was sent."""
    target = HttpTarget(base_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TemporaryError, match="nothing was sent") as caught:
        await Get(path="/x").read(target, looking())
    assert caught.value.reason == "connect"
    await target.close()


@pytest.mark.parametrize(
    "answer", [Wire.HANG, None, b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf", b"garbage\r\n\r\n"]
)
async def test_no_whole_answer_is_temporary(answer: bytes | None) -> None:
    """Silence, a closed connection, half a body and garbage are all unknown, never evidence."""
    async with wire(lambda request: answer) as it:
        target = _target(it, timeout="100ms")
        with pytest.raises(TemporaryError) as caught:
            await asyncio.wait_for(Get(path="/x").read(target, looking()), 5)
        await target.close()
    assert caught.value.reason == "unanswered"


PATHS_REFUSED = [
    "",
    "health",
    "//evil.example/",
    "/a//b",
    "http://evil.example/",
    "/a/../b",
    "/..",
    "/a/./b",
    "/a?x=1",
    "/a#b",
    "/a\\b",
    "/a b",
    "/a\r\nX: y",
    "/a\x00",
    "/a%0d%0aX:%20y",
    "/%2e%2e/b",
    "/a%2fb",
    "/a%5cb",
    "/a%252e",
    "/a%00",
    "/a%zz",
    "/a%",
    "/a%ff",
    "/..;/b",
    "/ä",
    "/" + "a" * 3000,
]


@pytest.mark.parametrize("path", PATHS_REFUSED)
def test_paths_that_could_lead_elsewhere_are_refused(path: str) -> None:
    """No path names another host, climbs, hides a character or ends the request line."""
    with pytest.raises(ValidationError, match="path"):
        Get(path=path)


def test_the_permitted_path_is_the_decoded_one() -> None:
    """What the operator permits is compared with what the server will read, decoded exactly once."""
    assert Get(path="/admin/queue%20one/pause").needs() == {"paths": "/admin/queue one/pause"}


async def test_a_place_in_the_answer_is_found_or_left_out() -> None:
    """A value at json_path can be compared directly; where nothing is, there is no value that could compare."""
    async with wire(lambda request: reply(body=b'{"queue": {"in-flight": [0, null]}}')) as it:
        target = HttpTarget(base_url=it.url)
        for path, expected in {
            "queue.in-flight[0]": {"found": True, "value": 0},
            'queue["in-flight"][1]': {"found": True, "value": None},
            "queue.in-flight[2]": {"found": False},
            "queue.other": {"found": False},
            "queue[0]": {"found": False},
        }.items():
            evidence = await Get(path="/x", json_path=path).read(target, looking())
            assert {key: evidence[key] for key in ("found", "value") if key in evidence} == expected
        await target.close()


async def test_silence_may_be_the_answer() -> None:
    """Is it down? Answered with no after three tries in vain, where the rule asks for that; else it stays unknown."""
    port = free_port()
    target = HttpTarget.model_validate({"base_url": f"http://127.0.0.1:{port}", "timeout": "1s"})
    with pytest.raises(TemporaryError):
        await Get(path="/health").read(target, looking())
    evidence = await Get(path="/health", silence="down").read(target, looking())
    await target.close()
    assert (evidence["up"], evidence["status"]) == (False, 0) and str(port) in evidence["error"]


@pytest.mark.parametrize(("status", "up"), [(200, True), (404, True), (500, False)])
async def test_who_answers_with_an_error_is_told_from_who_is_silent(status: int, up: bool) -> None:
    """An answer is an answer: its status says whether the service is up."""
    async with wire(lambda request: reply(status, b"{}")) as it:
        target = _target(it)
        evidence = await Get(path="/health", silence="down").read(target, looking())
        await target.close()
    assert (evidence["up"], evidence["status"]) == (up, status)
    assert len(it.received) == 1
