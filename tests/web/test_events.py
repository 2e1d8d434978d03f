"""Proves that whoever watches sees everything that is committed, once, in order, and also after a break."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from remediator.audit import Entry
from remediator.clock import SystemClock
from remediator.ids import SystemIds
from remediator.run import State
from remediator.store import Pause
from remediator.stores.sqlite import SqliteStore
from remediator.web import events, live
from remediator.web.live import Live, live_event
from tests.web.site import DIGEST, TOKENS, Site, StartSite, asked, delivery, users


class Told(NamedTuple):
    """One event as a client reads it."""

    id: int
    event: str
    data: dict[str, Any]


class Stream:
    """A client that reads server-sent events, as the standard says (html.spec.whatwg.org, 9.2.6)."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.comments = 0

    async def next(self, seconds: float = 5.0) -> Told | None:
        """The next event, or None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(seconds):
            while line := await self.answer.content.readline():
                text = line.decode().rstrip("\n")
                name, _, value = text.partition(": ")
                if text.startswith(":"):
                    self.comments += 1
                elif text:
                    fields[name] = value
                elif "data" in fields:
                    return Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
                else:
                    fields = {}
        return None

    async def take(self, count: int) -> list[Told]:
        """The next ``count`` events."""
        found = [await self.next() for _ in range(count)]
        assert None not in found
        return [each for each in found if each is not None]


@asynccontextmanager
async def watching(site: Site, query: str = "", last: int | None = None, token: str = "") -> AsyncIterator[Stream]:
    """A stream that is open: whatever is committed from here on is in it."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    async with site.session.get(f"{site.url}/api/v1/events{query}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.content.readline() == b"retry: 1000\n"
        yield Stream(answer)


async def _deliver(site: Site, name: str = "HighQueueDepth", **labels: str) -> str:
    status, answer = await site.post("/api/v1/alertmanager", json=delivery((name, labels)))
    assert status == 200
    return str(answer["runs"][0]) if answer["runs"] else ""


async def test_a_run_is_followed_from_the_alert_to_its_end(site: Site) -> None:
    """A live page can show each move of a run, with its reason, without asking for anything else."""
    async with watching(site) as stream:
        run_id = await asked(site)
        await site.post(f"/api/v1/runs/{run_id}/reject", json={"digest": DIGEST, "comment": "not now"})
        told = await stream.take(5)
    assert [each.event for each in told] == ["delivery", "run", "run", "run", "run"]
    assert told[0].data["runs"] == [run_id]
    assert told[0].data["alerts"] == 1
    moves = [(each.data["state"], each.data["reason"], each.data["event"]) for each in told[1:]]
    assert moves == [
        ("queued", "matched", "run.queued"),
        ("running", "started", "run.started"),
        ("held", "approval", "approval.requested"),
        ("denied", "rejected", "approval.rejected"),
    ]
    assert {(each.data["id"], each.data["rule"]) for each in told[1:3]} == {(run_id, "minting-queue-backlog")}
    assert [each.id for each in told] == sorted({each.id for each in told})


async def test_pauses_and_rules_are_told(site: Site) -> None:
    """Whoever watches sees at once that everything stands still, until when, and that other rules are in force."""
    async with watching(site) as stream:
        await site.post("/api/v1/pause", json={"reason": "maintenance", "for": "1h"})
        await site.post("/api/v1/resume", json={"reason": "done"})
        await site.service.store.remember({}, Entry(event="rules.loaded", actor="user:ann", detail={"rules": 2}))
        await site.service.store.append(Entry(event="rules.rejected", actor="user:ann", detail={"error": "x:1:1"}))
        engaged, released, loaded, rejected = await stream.take(4)
    assert {engaged.event, released.event} == {"pause"}
    assert (engaged.data["engaged"], engaged.data["scope"], engaged.data["reason"]) == (True, "global", "maintenance")
    assert engaged.data["until"].endswith("Z") and engaged.data["actor"] == "user:anonymous"
    assert (released.data["engaged"], released.data["until"]) == (False, None)
    assert (loaded.event, loaded.data["loaded"], loaded.data["rules"]) == ("rules", True, 2)
    assert (rejected.data["loaded"], rejected.data["error"]) == (False, "x:1:1")


async def test_every_state_of_a_run_has_its_word(site: Site) -> None:
    """A state that is added to the machine is told as what it is, and a record that moves nothing says so."""
    store = site.service.store
    for state in State:
        await store.append(Entry(event=f"run.{state.value}", actor="remediator", run_id="r", detail={"reason": "why"}))
    await store.append(Entry(event="effect.late", actor="remediator", run_id="r"))
    await store.append(Entry(event="login.succeeded", actor="user:ann"))
    told = [live_event(record) for record in await store.audit()]
    states = [each and (each.data["state"], each.data["reason"]) for each in told]
    assert states == [*((state.value, "why") for state in State), (None, ""), None]


async def test_a_first_yes_of_two_is_not_yet_a_yes(site: Site) -> None:
    """A run that waits for a second person is told as waiting."""
    run_id = await asked(site, needed=2)
    async with watching(site, f"?run={run_id}") as stream:
        for actor in ("user:ann", "user:bob"):
            await site.service.store.vote(run_id, DIGEST, actor, True, "")
        told = await stream.take(2)
    assert [(each.data["state"], each.data["reason"]) for each in told] == [("held", "approval"), ("held", "approved")]


async def test_only_what_was_asked_for_is_told(site: Site) -> None:
    """A page about one rule or one run is not woken by others, and a misspelt filter is refused."""
    first = await _deliver(site)
    async with watching(site, "?rule=watch-only") as of_rule, watching(site, f"?run={first}") as of_run:
        other = await _deliver(site, "Other")
        await site.service.store.cancel(first, "user:ann", "")
        (told,) = await of_rule.take(1)
        assert (told.data["id"], told.data["rule"]) == (other, "watch-only")
        (told,) = await of_run.take(1)
        assert (told.data["id"], told.data["state"]) == (first, "cancelled")
    assert (await site.get("/api/v1/events?rul=x"))[0] == 400


async def test_a_client_that_comes_back_is_told_what_it_missed(site: Site) -> None:
    """A broken connection loses nothing and repeats nothing: the stream goes on after the last id."""
    async with watching(site) as stream:
        await _deliver(site, queue="a")
        seen = await stream.take(2)
    for name in "bcd":
        await _deliver(site, queue=name)
    async with watching(site, last=seen[-1].id) as stream:
        await _deliver(site, queue="e")
        told = await stream.take(8)
    assert [each.id for each in (*seen, *told)] == list(range(1, 11))


async def test_a_gap_is_never_silent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who missed too much, or comes from another history, is told to look anew instead of being told a part."""
    monkeypatch.setattr(events, "MISSED", 3)
    for name in "ab":
        await _deliver(site, queue=name)
    for last in (0, 99):
        async with watching(site, last=last) as stream:
            await _deliver(site, queue=f"later-{last}")
            reset, following = await stream.take(2)
            assert reset.event == "reset"
            assert following.id == reset.id + 1
    for wrong in ("x", "-1", "9" * 30):
        assert (await site.get("/api/v1/events", headers={"Last-Event-ID": wrong}))[0] == 400


async def test_nothing_is_lost_between_joining_and_reading(site: Site) -> None:
    """Clients that come while much is committed all see the same unbroken sequence."""

    async def write() -> None:
        for number in range(150):
            await site.service.store.append(Entry(event="run.held", actor="x", run_id=str(number)))
            await asyncio.sleep(0.001)

    async def read(delay: float) -> list[int]:
        await asyncio.sleep(delay)
        async with watching(site, last=0) as stream:
            return [each.id for each in await stream.take(150)]

    answers = await asyncio.gather(write(), *(read(number / 40) for number in range(6)))
    assert [each for each in answers if each is not None] == [list(range(1, 151))] * 6


async def test_an_idle_stream_shows_that_it_lives(site_with: StartSite) -> None:
    """Proxies and clients that end silent connections see a comment in time."""
    site = await site_with(heartbeat=0.05)
    async with watching(site) as stream:
        asyncio.get_running_loop().call_later(0.3, site.service.live.end)
        assert await stream.next() is None
    assert 3 <= stream.comments <= 7


async def test_streams_end_when_the_service_stops(site: Site) -> None:
    """A stop does not wait for those who only watch, and nobody can begin to watch a service that goes."""
    async with watching(site) as stream, watching(site) as another:
        site.service.live.end()
        assert (await stream.next(), await another.next()) == (None, None)
        status, answer = await site.get("/api/v1/events")
        assert (status, answer["type"]) == (503, "urn:remediator:problem:unavailable")
        begun = time.monotonic()
        await site.server.stop()
        assert time.monotonic() - begun < 1


async def test_a_client_that_is_too_slow_is_let_go_and_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a client is bounded: beyond that its stream ends, and it comes back for the rest."""
    monkeypatch.setattr(live, "_QUEUE", 50)
    watcher = await site.service.live.join()
    entries = [Entry(event="run.held", actor="x", run_id=str(number)) for number in range(400)]
    async with watching(site) as quick:
        for at in range(0, 400, 40):
            await site.service.store.append(*entries[at : at + 40])
            site.service.live.nudge()
            assert len(await quick.take(40)) == 40
    assert await watcher.next() is None
    async with watching(site, last=0) as stream:
        assert [each.id for each in await stream.take(400)] == list(range(1, 401))


async def test_a_client_that_takes_nothing_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stopped reading, with the connection open, holds its place for seconds and not for ever."""
    monkeypatch.setattr(events, "_STALLED", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, limit=1024)
    writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    entry = Entry(event="run.held", actor="x", run_id="r", detail={"message": "x" * 100_000})
    async with asyncio.timeout(15):
        while site.service.live._watchers:
            await site.service.store.append(entry)
            await asyncio.sleep(0.02)
    writer.close()


async def test_a_stream_outlives_an_outage_of_the_store(tmp_path: Path) -> None:
    """While the store is away nothing is told and nothing breaks; afterwards the stream goes on."""
    clock = SystemClock()
    store = SqliteStore(str(tmp_path / "store.db"), clock=clock, ids=SystemIds(clock))
    await store.open()
    follow = Live(store, poll=0.01)
    watcher = await follow.join()
    await store.close()
    await asyncio.sleep(0.1)
    await store.open()
    await store.pause(Pause("global", "test", "user:ann", clock.now(), None))
    async with asyncio.timeout(5):
        event = await watcher.next()
    assert event is not None and event.kind == "pause"
    follow.leave(watcher)
    await store.close()


async def test_nobody_reads_the_audit_for_nobody(site: Site) -> None:
    """Without clients the live events cost nothing, however they were left."""
    async with watching(site):
        assert site.service.live._task is not None
    await site.service.store.append(Entry(event="run.held", actor="x", run_id="r"))
    async with asyncio.timeout(5):
        while site.service.live._watchers:
            await site.service.store.append(Entry(event="run.held", actor="x", run_id="r"))
            await asyncio.sleep(0.02)
    assert site.service.live._task is None


async def test_clients_are_bounded(site: Site) -> None:
    """The hundred and first client is refused with a word that says when to come again."""
    watchers = [await site.service.live.join() for _ in range(100)]
    async with site.session.get(f"{site.url}/api/v1/events") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
    for watcher in watchers:
        site.service.live.leave(watcher)


async def test_a_token_that_was_taken_away_stops_working(
    site_with: StartSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream ends by itself in the end, and coming back needs a token that is still good."""
    monkeypatch.setattr(events, "_LONGEST", 0.2)
    site = await site_with(users=users(tmp_path))
    async with watching(site, token=TOKENS["viewer"]) as stream:
        (tmp_path / "viewer.token").write_text("another-one-6f1d0c5b9a8e7f3d2c1b0a9f8e7d6c5b\n")
        while await stream.next() is not None:
            pass
    assert (await site.get("/api/v1/events", TOKENS["viewer"]))[0] == 401


async def test_text_of_alerts_cannot_forge_an_event(site: Site) -> None:
    """Line feeds and markup in what people and alerts say stay inside the data of their own event."""
    evil = "x\n\nid: 99\nevent: run\ndata: {}\n\n\r\u2028</script>"
    async with watching(site) as stream:
        await site.service.store.append(Entry(event="run.held", actor="x", run_id="r", detail={"message": evil}))
        await site.service.store.append(Entry(event="run.held", actor="x", run_id="s"))
        first, second = await stream.take(2)
    assert (first.id, first.data["message"]) == (1, evil)
    assert (second.id, second.data["id"]) == (2, "s")
