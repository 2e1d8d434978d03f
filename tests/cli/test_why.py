"""Proves that a person at a terminal learns why a run did what it did, and what became of an alert."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli
from tests.web.changes import changed
from tests.web.site import Site, asked, delivery


async def test_why_a_run(ask: Cli, site: Site) -> None:
    """Sentences in order, what follows from the run below them, and all of it as JSON."""
    run, back = await changed(site)
    out = (await ask("why", run.id)).out
    assert out.startswith(f"run {run.id} of rule minting-queue-backlog is succeeded (verified)")
    assert 'told that {alertname="HighQueueDepth", n="0"} fires since' in out
    assert f"temporary change {back.id} is held" in out
    found = json.loads((await ask("why", "@latest", "-o", "json")).out)
    assert found["run"] == run.id and found["story"][0]["what"] == "run.queued"
    assert found["follows"][0]["story"][0]["what"] == "change.in_force"
    said = await ask("why", "0" * 26)
    assert (said.code, said.err) == (1, f'Error: there is no run "{"0" * 26}"\n')


async def test_why_nothing_happened_to_an_alert(ask: Cli, site: Site) -> None:
    """An alert that no rule answers opened no incident, and the rules in force say why they do not answer."""
    await site.post("/api/v1/alertmanager", json=delivery(("Unheard", {"team": "x"})))
    said = await ask("why", "Unheard", "team=x")
    assert said.code == 1
    assert "no rule answered it" in said.out and "none of 2 rules answers to that alert name" in said.out


async def test_why_an_alert(ask: Cli, site: Site) -> None:
    """Its incidents, their runs and the rules that answer it."""
    run_id = await asked(site)
    said = await ask("why", "alertname=HighQueueDepth")
    assert said.code == 0
    assert f"run {run_id} of minting-queue-backlog: held (approval)" in said.out
    assert "✓ minting-queue-backlog  mode approve" in said.out
    assert "still fires" in said.out
    found = json.loads((await ask("why", "HighQueueDepth", "-o", "json")).out)
    assert found["incidents"][0]["runs"][0]["id"] == run_id
    assert (await ask("why", "HighQueueDepth", "severity")).code == 2
