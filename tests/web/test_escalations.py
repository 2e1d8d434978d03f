"""Proves that everybody sees who was called about a run, and that one word of a person ends the calling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.run import State
from remediator.store import Claim
from remediator.web import escalations
from tests.web.people import called
from tests.web.site import TOKENS, Site, StartSite, asked, users


async def test_who_was_called_is_shown(site: Site) -> None:
    """Each call with its state, when it was or will be, and what came of it."""
    run_id, escalation = await called(site)
    status, page = await site.get(f"/api/v1/runs/{run_id}/escalations")
    assert status == 200
    (told,) = page["items"]
    assert (told["id"], told["policy"], told["state"], told["acknowledged"]) == (escalation, "oncall", "held", None)
    first, second = told["calls"]
    assert (first["name"], first["state"], first["message"]) == (
        "on call",
        "sent",
        "Slack took the message to #on-call",
    )
    assert first["sent_at"]
    assert first["next_at"] is None
    assert (second["state"], second["sent_at"], second["resolved"]) == ("waiting", None, None)
    assert second["next_at"] > first["sent_at"]
    assert (await site.get("/api/v1/runs/nobody/escalations"))[0] == 404
    assert (await site.get(f"/api/v1/runs/{run_id}"))[1]["escalations"] == [told]


async def test_one_word_takes_over(site: Site) -> None:
    """By the id of the run or of the escalation; once; with the name and the words of the person in the audit."""
    run_id, escalation = await called(site)
    status, page = await site.post(f"/api/v1/runs/{run_id}/acknowledge", json={"comment": "on it"})
    assert status == 200
    acknowledged = page["items"][0]["acknowledged"]
    assert (acknowledged["actor"], acknowledged["comment"]) == ("user:anonymous", "on it")
    assert site.service.woken == 2  # by the delivery, and now
    status, page = await site.post(f"/api/v1/runs/{escalation}/acknowledge", json={})
    assert (status, page["detail"]) == (409, "user:anonymous has taken over already")
    (record,) = await site.service.store.audit(event="escalation.acknowledged")
    assert (record.actor, record.run_id) == ("user:anonymous", escalation)


async def test_where_nobody_is_called_nobody_can_take_over(site: Site) -> None:
    """A run that waits for something else says so."""
    run_id = await asked(site)
    status, page = await site.post(f"/api/v1/runs/{run_id}/acknowledge", json={})
    assert (status, page["detail"]) == (409, f"nobody is being called about run {run_id}")
    assert (await site.get(f"/api/v1/runs/{run_id}/escalations"))[1] == {"items": [], "next": None}


async def test_a_message_that_is_just_being_sent_is_waited_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who is woken at night presses once: the word counts as soon as the message is out."""
    run_id, escalation = await called(site)
    store, now = site.service.store, site.service.clock.now()
    monkeypatch.setattr(escalations, "_PAUSE", 0.01)
    (claim,) = await _claimed(site, escalation)
    status, page = await site.post(f"/api/v1/runs/{run_id}/acknowledge", json={})
    assert (status, page["detail"]) == (409, f"run {escalation} is calling somebody just now; try again")
    pressed = asyncio.create_task(site.post(f"/api/v1/runs/{run_id}/acknowledge", json={}))
    await asyncio.sleep(0.03)
    await store.save(claim.run.move(State.HELD, "escalating", "told", now=now, wake_at=now + 900))
    assert (await pressed)[0] == 200


async def _claimed(site: Site, run_id: str) -> Sequence[Claim]:
    """The escalation in the hands of a worker, as while it sends."""
    store = site.service.store
    taken = await store.acknowledge(run_id, "user:x", "")
    claims = await store.claim("worker", 30, 1)
    assert [claim.run.id for claim in claims] == [taken.id]
    kept = {key: value for key, value in taken.progress.items() if key != "acknowledged"}
    return [claim._replace(run=await store.save(replace(claim.run, progress=kept))) for claim in claims]


async def test_taking_over_needs_an_operator(site_with: StartSite, tmp_path: Path) -> None:
    """Everybody may look; who may not cancel may not silence a call either."""
    site = await site_with(users=users(tmp_path))
    run_id, _ = await called(site)
    path = f"/api/v1/runs/{run_id}"
    assert (await site.get(f"{path}/escalations", TOKENS["viewer"]))[0] == 200
    assert (await site.post(f"{path}/acknowledge", TOKENS["viewer"], json={}))[0] == 403
    assert (await site.post(f"{path}/acknowledge", TOKENS["operator"], json={}))[0] == 200
