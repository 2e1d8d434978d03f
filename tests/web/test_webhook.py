"""Proves what the webhook accepts, what it refuses and with which status, and that nothing it refuses harms it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from remediator.errors import StoreUnavailable
from tests.web.site import TOKENS, Site, StartSite, delivery, users

PATH = "/api/v1/alertmanager"
PAYLOADS = sorted((Path(__file__).parent.parent / "payloads").glob("*.json"))
SECRET = "am-7f3d2c1b0a9f8e7d6c5b4a39"


async def _raw(site: Site, data: bytes, seconds: float = 10) -> bytes:
    """What the server answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(data)
    try:
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


async def test_a_delivery_is_answered_after_its_runs_are_stored(site: Site) -> None:
    """200 names the alerts and the runs, the runs can be read at once, and the worker was woken."""
    status, answer = await site.post(PATH, json=delivery("HighQueueDepth", "Unknown"))
    assert status == 200
    assert answer["accepted"] == 2
    (run_id,) = answer["runs"]
    assert (await site.service.store.run(run_id)).rule == "minting-queue-backlog"
    assert site.service.woken == 1


async def test_a_delivery_told_twice_opens_one_run(site: Site) -> None:
    """Alertmanager is at-least-once: the second copy is accepted and opens nothing."""
    await site.post(PATH, json=delivery("HighQueueDepth"))
    assert await site.post(PATH, json=delivery("HighQueueDepth")) == (200, {"accepted": 1, "runs": []})


@pytest.mark.parametrize("file", PAYLOADS, ids=lambda file: file.stem)
async def test_what_real_alertmanagers_sent_is_accepted(site: Site, file: Path) -> None:
    """Every captured body of three versions of Alertmanager is accepted as it stands, with all its alerts."""
    body = file.read_bytes()
    status, answer = await site.post(PATH, data=body, headers={"Content-Type": "application/json"})
    assert (status, answer["accepted"]) == (200, len(json.loads(body)["alerts"]))


BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("not JSON", b"{", 400, "not-json"),
    ("nothing", b"", 400, "not-json"),
    ("not an object", b"[]", 400, "not-object"),
    ("wrong version", json.dumps(delivery("A") | {"version": "3"}).encode(), 400, "version"),
    ("no version", b"{}", 400, "version"),
    ("deep nesting", b'{"version":"4","alerts":' + b"[" * 100_000, 400, "too-deep"),
    ("deep unknown field", json.dumps(delivery("A", x=[[[[[[[1]]]]]]])).encode(), 400, "too-deep"),
    ("100,000 labels", json.dumps(delivery(("A", {f"l{n}": "v" for n in range(50_000)}))).encode(), 400, ""),
    ("duplicate key", b'{"version":"4","version":"4","alerts":[]}', 400, "duplicate-key"),
    ("NaN", b'{"version":"4","alerts":[],"x":NaN}', 400, "not-json"),
    ("a number of 5,000 digits", b'{"version":"4","alerts":[],"x":' + b"1" * 5000 + b"}", 400, "not-json"),
    ("not UTF-8", b'{"version":"\xff"}', 400, "not-utf8"),
    ("alerts as text", b'{"version":"4","alerts":"x"}', 400, "alerts"),
    ("too many alerts", json.dumps(delivery(*["A"] * 2001)).encode(), 400, "too-many-alerts"),
]


@pytest.mark.parametrize(("body", "status", "word"), [each[1:] for each in BAD_BODIES], ids=[e[0] for e in BAD_BODIES])
async def test_bad_bodies_are_refused_for_good(site: Site, body: bytes, status: int, word: str) -> None:
    """Each bad body gets a 4xx and a problem that names what is wrong; the next good body is accepted."""
    got, answer = await site.post(PATH, data=body, headers={"Content-Type": "application/json"})
    assert got == status == answer["status"]
    assert answer["type"].startswith(f"urn:remediator:problem:{word}")
    assert answer["detail"]
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 200


async def test_100_000_labels_within_the_size_are_refused(site_with: StartSite) -> None:
    """Also where the operator allows large bodies, one alert has at most 64 labels."""
    site = await site_with(max_body=16 << 20)
    body = delivery(("A", {f"l{n}": "v" for n in range(100_000)}))
    data = io.BytesIO(json.dumps(body).encode())
    status, answer = await site.post(PATH, data=data, headers={"Content-Type": "application/json"})
    assert (status, answer["status"]) == (400, 400)
    assert "labels" in answer["detail"]


async def test_ten_mebibytes_are_refused_by_their_head(site: Site) -> None:
    """A body that says it is too large is refused before it is read."""
    body = io.BytesIO(b" " * (10 << 20))
    status, answer = await site.post(PATH, data=body, headers={"Content-Type": "application/json"})
    assert (status, answer["type"]) == (413, "urn:remediator:problem:too-large")


async def test_a_body_without_length_is_counted_while_it_is_read(site: Site) -> None:
    """A chunked body that never says how long it is is refused as soon as it is too long."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 65536

    status, _ = await site.post(PATH, data=endless(), headers={"Content-Type": "application/json"})
    assert status == 413
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_encoded_bodies_are_refused_unread(site: Site, encoding: str) -> None:
    """No body is ever decompressed, so none can be a bomb."""
    data = gzip.compress(json.dumps(delivery("HighQueueDepth")).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    async with site.session.post(site.url + PATH, data=data, headers=headers, compress=None) as answer:
        assert answer.status == 415
        assert (await answer.json(content_type=None))["type"] == "urn:remediator:problem:encoding"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_types_than_json_are_refused(site: Site, kind: str) -> None:
    """A form that a browser could send from another site is no delivery."""
    status, answer = await site.post(PATH, data=b"{}", headers={"Content-Type": kind})
    assert (status, answer["type"]) == (415, "urn:remediator:problem:media-type")


async def test_a_slow_body_is_cut_off(site_with: StartSite) -> None:
    """Who sends a body drop by drop gets 408 in time, and the connection is closed."""
    site = await site_with(body_timeout=0.3)
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    answer = await _raw(site, head % PATH.encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:remediator:problem:slow-body" in answer


async def test_a_slow_head_is_cut_off(site_with: StartSite) -> None:
    """Who never finishes the head of a request is disconnected without an answer."""
    site = await site_with(head_timeout=0.3)
    assert await _raw(site, b"POST /api/v1/alertmanager HTTP/1.1\r\nHost: local") == b""
    assert site.server.limits.open == 0


async def test_slow_clients_do_not_slow_the_others(site_with: StartSite) -> None:
    """With a hundred connections that send half a head, deliveries are accepted, and all hundred are closed in time."""
    site = await site_with(head_timeout=1.0)
    slow = [await asyncio.open_connection("127.0.0.1", site.server.port) for _ in range(100)]
    for _, writer in slow:
        writer.write(b"POST /api/v1/alertmanager HTTP/1.1\r\nX: ")
    async with asyncio.timeout(1):
        assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 200
    async with asyncio.timeout(5):
        assert [await reader.read() for reader, _ in slow] == [b""] * 100
    for _, writer in slow:
        writer.close()


async def test_a_slow_second_head_is_cut_off_too(site_with: StartSite) -> None:
    """A connection that was good once does not keep its place by sending half a head afterwards."""
    site = await site_with(keep_alive=0.3)
    answer = await _raw(site, b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\nGET /-/healthy HTTP/1.1\r\nX: ")
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_too_many_connections_are_turned_away_at_once(site_with: StartSite) -> None:
    """Beyond the cap a client hears 503 immediately, and gets in as soon as another one has left."""
    site = await site_with(connections=3)
    kept = [await asyncio.open_connection("127.0.0.1", site.server.port) for _ in range(3)]
    answer = await _raw(site, b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n", 2)
    assert answer.startswith(b"HTTP/1.1 503 ")
    for _, writer in kept:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(2):
        while site.server.limits.open:
            await asyncio.sleep(0)
    assert (await site.get("/-/healthy"))[0] == 200


async def test_nonsense_is_answered_as_a_problem(site: Site) -> None:
    """Bytes that are no HTTP get 400 as problem+json and the connection is closed."""
    answer = await _raw(site, b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"application/problem+json" in answer


async def test_a_store_that_cannot_commit_means_send_again(site: Site) -> None:
    """Without a store the sender hears 503 with Retry-After, and once it is back the same body is accepted."""
    store = site.service.store
    await store.close()
    async with site.session.post(site.url + PATH, json=delivery("HighQueueDepth")) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.content_type == "application/problem+json"
    await store.open()
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 200


async def test_a_commit_that_takes_too_long_means_send_again(site_with: StartSite) -> None:
    """The sender is never kept waiting longer than the limit, however long the store takes."""
    site = await site_with(accept_timeout=0.2)

    class Hung:
        async def accept(self, body: bytes, source: str) -> object:
            await asyncio.Event().wait()
            raise AssertionError("never reached")

    site.service.intake = Hung()  # type: ignore[assignment]  # an intake that hangs, as a store on a dead disk would
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 503


async def test_a_bug_means_send_again_and_tells_nothing(site: Site) -> None:
    """Whatever goes wrong inside, Alertmanager keeps the alert, and the answer holds no details."""

    class Broken:
        async def accept(self, body: bytes, source: str) -> object:
            raise RuntimeError("password=hunter2")

    site.service.intake = Broken()  # type: ignore[assignment]  # an intake with a bug
    status, answer = await site.post(PATH, json=delivery("HighQueueDepth"))
    assert status == 503
    assert "hunter2" not in json.dumps(answer)


async def test_too_much_backlog_means_send_again_and_never_too_many_requests(site: Site) -> None:
    """Overload is 503, which Alertmanager retries, and never 429, which it drops."""

    class Full:
        async def accept(self, body: bytes, source: str) -> object:
            raise StoreUnavailable("10000 runs wait")

    site.service.intake = Full()  # type: ignore[assignment]  # an intake whose backlog is full
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 503


async def test_every_answer_is_counted_by_its_code(site: Site) -> None:
    """The figures tell accepted from refused deliveries."""
    await site.post(PATH, json=delivery("HighQueueDepth"))
    await site.post(PATH, data=b"{", headers={"Content-Type": "application/json"})
    figures = site.service.metrics.render().decode()
    assert 'remediator_deliveries_total{code="200"} 1.0' in figures
    assert 'remediator_deliveries_total{code="400"} 1.0' in figures
    assert "remediator_intake_duration_seconds_count 2.0" in figures
    assert 'remediator_alerts_received_total{status="firing"} 1.0' in figures


async def test_only_known_tokens_may_deliver_and_two_at_once(site_with: StartSite, tmp_path: Path) -> None:
    """Both tokens of the file deliver; a wrong one, none, and another scheme get 401 that reveals nothing."""
    file = tmp_path / "tokens"
    file.write_text(f"# rotated in November\nold:{SECRET}\n\nnew:{SECRET[::-1]}\n")
    site = await site_with(tokens_file=str(file))
    body = delivery("HighQueueDepth")
    assert (await site.post(PATH, json=body, token=SECRET))[0] == 200
    assert (await site.post(PATH, json=body, token=SECRET[::-1]))[0] == 200
    wrong: tuple[dict[str, str], ...] = (
        {}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {SECRET}"}, {"Authorization": SECRET},
    )
    for headers in wrong:
        async with site.session.post(site.url + PATH, json=body, headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert await answer.json(content_type=None) == {
                "type": "urn:remediator:problem:unauthorized", "title": "Unauthorized", "status": 401,
            }  # fmt: skip
    records = await site.service.store.audit(event="delivery.accepted")
    assert [record.actor for record in records] == ["alertmanager:old", "alertmanager:new"]


async def test_a_replaced_token_counts_at_once_without_a_restart(site_with: StartSite, tmp_path: Path) -> None:
    """Once the file has changed, the new token delivers and the removed one does not."""
    file = tmp_path / "tokens"
    file.write_text(SECRET)
    site = await site_with(tokens_file=str(file))
    other = "b" + SECRET
    fresh = tmp_path / "fresh"
    fresh.write_text(other)
    fresh.replace(file)
    assert (await site.post(PATH, json=delivery("HighQueueDepth"), token=other))[0] == 200
    assert (await site.post(PATH, json=delivery("HighQueueDepth"), token=SECRET))[0] == 401


async def test_an_unreadable_token_file_lets_nobody_in_and_loses_nothing(site_with: StartSite, tmp_path: Path) -> None:
    """While the file is missing or holds a weak token the answer is 503, so that no alert is lost."""
    file = tmp_path / "tokens"
    file.write_text(SECRET)
    site = await site_with(tokens_file=str(file))
    body = delivery("HighQueueDepth")
    file.unlink()
    assert (await site.post(PATH, json=body, token=SECRET))[0] == 503
    file.write_text("weak")
    assert (await site.post(PATH, json=body, token="weak"))[0] == 503
    file.write_text(SECRET)
    assert (await site.post(PATH, json=body, token=SECRET))[0] == 200


async def test_the_token_is_looked_at_before_the_body(site_with: StartSite, tmp_path: Path) -> None:
    """A stranger is refused by the head alone: also with ``Expect`` nothing of the body is asked for."""
    file = tmp_path / "tokens"
    file.write_text(SECRET)
    site = await site_with(tokens_file=str(file))
    text = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    head = text.encode()
    plain = await _raw(site, head + b"Connection: close\r\n\r\n", 5)
    assert plain.startswith(b"HTTP/1.1 401 ")
    expecting = await _raw(site, head + b"Expect: 100-continue\r\n\r\n", 5)
    assert expecting.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in expecting


async def test_who_may_send_is_asked_to_go_on(site: Site) -> None:
    """A known sender that waits for ``100 Continue`` gets it, and then its delivery is accepted."""
    async with site.session.post(site.url + PATH, json=delivery("HighQueueDepth"), expect100=True) as answer:
        assert answer.status == 200


async def test_people_deliver_by_role(site_with: StartSite, tmp_path: Path) -> None:
    """With users configured an operator may deliver by hand, a viewer may not, and nobody anonymously."""
    site = await site_with(users=users(tmp_path))
    body = delivery("HighQueueDepth")
    assert (await site.post(PATH, json=body, token=TOKENS["operator"]))[0] == 200
    assert (await site.post(PATH, json=body, token=TOKENS["viewer"]))[0] == 403
    assert (await site.post(PATH, json=body))[0] == 401


async def test_deliveries_are_still_taken_while_draining(site: Site) -> None:
    """A service that is about to stop answers Alertmanager as long as it listens, and says that it is not ready."""
    site.service.draining = True
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 200
    assert (await site.get("/-/ready"))[0] == 503


async def test_a_client_that_goes_away_leaves_the_server_whole(site: Site) -> None:
    """A sender that disconnects in the middle of its body costs nothing but its own connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(b"POST /api/v1/alertmanager HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    assert (await site.post(PATH, json=delivery("HighQueueDepth")))[0] == 200
    del reader


async def test_other_methods_are_told_what_is_taken(site: Site) -> None:
    """GET on the webhook is 405 and names POST, so that a person who tries it in a browser understands."""
    async with aiohttp.ClientSession() as session, session.get(site.url + PATH) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
