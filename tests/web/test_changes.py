"""Proves that people see what is changed for a time only, and can put it back or keep it, each with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from remediator.web import changes, runs
from tests.web.changes import changed
from tests.web.site import TOKENS, Site, StartSite, asked, users

WHY = {"reason": "the sale is over"}


def _conforms(shape: Any, value: Any) -> None:
    TypeAdapter(shape).validate_json(json.dumps(value), strict=True, extra="forbid")


async def test_what_is_in_force_is_listed(site: Site) -> None:
    """What was changed, by which run, since when, and when it goes back at the latest."""
    run, back = await changed(site)
    status, page = await site.get("/api/v1/changes")
    assert status == 200
    _conforms(changes.ChangeList, page)
    (shown,) = page["items"]
    assert (shown["id"], shown["run"], shown["rule"]) == (back.id, run.id, "minting-queue-backlog")
    assert (shown["before"], shown["after"]) == ({"workers": 2}, {"workers": 5})
    assert (shown["settle"], shown["state"], shown["subject"]) == ("15m", "held", "workers")
    assert (await site.get(f"/api/v1/changes/{back.id}"))[1] == shown


async def test_changes_are_listed_in_pages(site: Site) -> None:
    """Following ``next`` gives each once, newest first; a rule that changed nothing has none."""
    made = [(await changed(site, number))[1].id for number in range(3)]
    status, page = await site.get("/api/v1/changes?limit=2")
    assert [item["id"] for item in page["items"]] == made[:0:-1]
    status, page = await site.get(f"/api/v1/changes?limit=2&cursor={page['next']}")
    assert status == 200 and [item["id"] for item in page["items"]] == made[:1] and page["next"] is None
    assert (await site.get("/api/v1/changes?rule=watch-only"))[1]["items"] == []


async def test_putting_it_back_now(site: Site) -> None:
    """It is due at once, the worker is woken, and the audit has who asked and why."""
    _, back = await changed(site)
    woken = site.service.woken
    status, shown = await site.post(f"/api/v1/changes/{back.id}/revert", json=WHY)
    assert status == 200 and "the sale is over" in shown["message"]
    assert site.service.woken == woken + 1
    (claim,) = await site.service.store.claim("worker", 30, 1)
    assert claim.run.id == back.id
    assert "change.revert_requested" in await site.events()
    status, answer = await site.post(f"/api/v1/changes/{back.id}/revert", json=WHY)
    assert (status, answer["type"]) == (409, "urn:remediator:problem:conflict")


async def test_keeping_it(site: Site) -> None:
    """It is in force no more, because it is no longer temporary; that is told when it is asked for by state."""
    _, back = await changed(site)
    status, shown = await site.post(f"/api/v1/changes/{back.id}/keep", json=WHY)
    assert (status, shown["state"], shown["reason"]) == (200, "cancelled", "kept")
    assert (await site.get("/api/v1/changes"))[1]["items"] == []
    assert [item["id"] for item in (await site.get("/api/v1/changes?state=cancelled"))[1]["items"]] == [back.id]
    assert (await site.post(f"/api/v1/changes/{back.id}/keep", json=WHY))[0] == 409


@pytest.mark.parametrize("word", ["revert", "keep"])
async def test_it_takes_a_reason_and_a_role(site_with: StartSite, tmp_path: Path, word: str) -> None:
    """Without a reason nothing is done; whoever may only look may not do it; a link in a chat does nothing."""
    site = await site_with(users=users(tmp_path))
    _, back = await changed(site)
    path = f"/api/v1/changes/{back.id}/{word}"
    assert (await site.post(path, TOKENS["viewer"], json=WHY))[0] == 403
    assert (await site.post(path, TOKENS["operator"], json={}))[0] == 400
    assert (await site.get(path, TOKENS["admin"]))[0] == 405
    assert (await site.service.store.run(back.id)).state == "held"
    assert (await site.post(path, TOKENS["operator"], json=WHY))[0] == 200


async def test_a_run_is_no_temporary_change(site: Site) -> None:
    """A mistyped id neither cancels a run nor shows one."""
    run_id = await asked(site)
    for method, path in (("GET", ""), ("POST", "/revert"), ("POST", "/keep")):
        status, answer = await site.ask(method, f"/api/v1/changes/{run_id}{path}", json=WHY if path else None)
        assert (status, "is no temporary change" in answer["detail"]) == (404, True)
    assert (await site.service.store.run(run_id)).state == "held"


async def test_a_run_shows_its_remedies_and_what_its_steps_are_for(site: Site) -> None:
    """Which remedy a step belongs to, what undoes it, what goes back by itself: all on the run's page."""
    run, _ = await changed(site)
    _, shown = await site.get(f"/api/v1/runs/{run.id}")
    _conforms(runs.RunWhole, shown)
    assert [(remedy["name"], remedy["state"]) for remedy in shown["remedies"]] == [
        ("add workers", "helped"), ("restart", "waiting"),
    ]  # fmt: skip
    assert [(step["id"], step["kind"], step["remedy"], step["undoes"]) for step in shown["steps"]] == [
        ("grow", "remedy", "add workers", None), ("resume", "finally", None, None), ("undo_grow", "undo", None, "grow"),
    ]  # fmt: skip
    assert shown["steps"][0]["revert"] == "b" * 26


async def test_lists_of_runs_speak_of_remedies_unless_asked(site: Site) -> None:
    """What follows from a run is found by its kind and does not crowd the list."""
    run, back = await changed(site)

    async def found(query: str) -> list[str]:
        return [item["id"] for item in (await site.get(f"/api/v1/runs{query}"))[1]["items"]]

    assert await found("") == [run.id]
    assert await found("?kind=revert") == [back.id]
    assert set(await found("?kind=revert&kind=remedy")) == {run.id, back.id}
    assert (await site.get("/api/v1/runs?kind=all"))[0] == 400
    _, shown = await site.get(f"/api/v1/runs/{back.id}")
    assert (shown["kind"], shown["about"]) == ("revert", f"{run.id}/0")
