"""Tests of the action statuspage.update, against a stand-in that answers as Statuspage's reference says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.statuspage.target import StatuspageTarget
from remediator.integrations.statuspage.update import Update
from tests.integrations.corpus import PAYLOADS
from tests.integrations.statuspage.stages import API_KEY, StatusPage, settings
from tests.integrations.support import Wire, acting, reply, wire


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[tuple[StatusPage, StatuspageTarget]]:
    """A page, and the target that reaches it."""
    it = StatusPage()
    async with wire(it.answer) as server:
        target = settings(tmp_path, server.url)
        yield it, target
        await target.close()


async def _tell(target: StatuspageTarget, **parameters: Any) -> Change:
    action = Update.model_validate({"service": "minting", **parameters})
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    if not change.empty:
        await action.apply(target, change, acting())
    return change


async def test_the_templates_of_the_runbook(page: tuple[StatusPage, StatuspageTarget]) -> None:
    """What customers read is what the minting runbook says, first and last; one incident carries both."""
    it, target = page
    await _tell(
        target,
        symptom="delayed minting operations",
        started="2026-01-02 16:00 UTC",
        impact="Some ticket minting requests may be delayed",
    )
    await _tell(target, state="resolved", duration="45 minutes", cause="Database connection pool exhaustion")
    first, last = it.writes
    assert first["name"] == "[INVESTIGATING] Minting Service Degradation"
    assert first["body"] == (
        "We are investigating reports of delayed minting operations.\n"
        "Started: 2026-01-02 16:00 UTC\n"
        "Impact: Some ticket minting requests may be delayed"
    )
    assert first["components"] == {"ftgks51sfs2d": "degraded_performance"}
    assert last["name"] == "[RESOLVED] Minting Service Degradation"
    assert last["body"] == (
        "The issue has been resolved. Minting Service is functioning normally.\n"
        "Duration: 45 minutes\n"
        "Root Cause: Database connection pool exhaustion"
    )
    assert last["components"] == {"ftgks51sfs2d": "operational"}
    assert len(it.incidents) == 1


async def test_the_page_says_a_thing_once(page: tuple[StatusPage, StatuspageTarget]) -> None:
    """After a crash it is looked first: the same text is not told twice, and nothing is resolved that is not ours."""
    it, target = page
    it.incidents.append({"id": "theirs", "name": "by hand", "status": "identified", "incident_updates": []})
    assert not (await _tell(target)).empty
    assert (await _tell(target)).empty
    assert not (await _tell(target, state="identified")).empty
    assert len(it.incidents) == 2
    assert (await _tell(target, state="resolved")).before["status"] == "identified"
    assert (await _tell(target, state="resolved")).empty
    assert it.incidents[1]["status"] == "identified"


async def test_the_way_back_tells_that_it_is_over(page: tuple[StatusPage, StatuspageTarget]) -> None:
    """The inverse resolves our incident; where it is gone already there is nothing to do."""
    it, target = page
    back = Update(service="minting").inverse(await _tell(target))
    assert back is not None
    change = await back.diff(target, acting())
    await back.apply(target, change, acting())
    assert (await back.diff(target, acting())).empty
    assert [written["status"] for written in it.writes] == ["investigating", "resolved"]
    assert back.inverse(change) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(401), PermanentError),
        (reply(422), PermanentError),
        (reply(420), TemporaryError),
        (reply(429), TemporaryError),
        (reply(500), Unanswered),
        (None, Unanswered),
        (Wire.HANG, Unanswered),
    ],
)
async def test_every_answer_to_a_write_has_its_meaning(
    page: tuple[StatusPage, StatuspageTarget], answer: bytes | None, error: type[Exception]
) -> None:
    """Refused, later, or unknown: then the page is looked at again before anything is written."""
    it, target = page
    it.instead = [answer]
    with pytest.raises(error):
        await _tell(target)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(403), PermanentError),
        (reply(500), TemporaryError),
        (reply(200, b"{}"), TemporaryError),
        (reply(200, b"["), TemporaryError),
        (None, TemporaryError),
    ],
)
async def test_a_page_that_cannot_be_read_is_not_written(
    tmp_path: Path, answer: bytes | None, error: type[Exception]
) -> None:
    """Without knowing what is open, a second incident could be opened; so nothing is written."""
    async with wire(lambda request: answer) as it:
        target = settings(tmp_path, it.url)
        with pytest.raises(error):
            await _tell(target)
        await target.close()
    assert all(request.line.startswith(b"GET") for request in it.received)


async def test_no_text_gets_past_the_page(page: tuple[StatusPage, StatuspageTarget]) -> None:
    """A label fills its line and nothing else: it can neither add a line nor change which incident is written."""
    it, target = page
    for payload in PAYLOADS[::4]:
        try:
            await _tell(target, impact=f"x {payload}", symptom=payload)
        except ValueError:
            assert any(0xD800 <= ord(character) <= 0xDFFF for character in payload)
    assert len(it.incidents) == 1
    assert all(len(written["body"].split("\n")) == 2 for written in it.writes)
    assert all(written["status"] == "investigating" for written in it.writes)


async def test_a_long_text_is_cut_and_says_so(page: tuple[StatusPage, StatuspageTarget], tmp_path: Path) -> None:
    """The page takes 25,000 characters; the key is in no change and no repr."""
    it, target = page
    change = await _tell(target, text="x" * 30_000)
    assert it.writes[0]["body"].endswith("characters left out]")
    assert API_KEY not in json.dumps(change.as_json()) + repr(target)
    with pytest.raises(PermanentError, match="there are: minting"):
        await _tell(target, service="billing")
