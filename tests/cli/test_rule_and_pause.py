"""Proves that rules are shown as they are in force, and that the kill switch stops what it says, and only that."""

from __future__ import annotations

import json

import pytest

from remediator.audit import Entry
from remediator.run import State
from tests.cli.conftest import Cli
from tests.web.site import Site, delivery


async def test_rules_are_listed_and_described(ask: Cli) -> None:
    """The table has mode and alerts, the description has the rule as it was written."""
    table = (await ask("rule", "list")).out.splitlines()
    assert table[1].split() == ["minting-queue-backlog", "approve", "HighQueueDepth", "-"]
    assert "rules.yaml" in (await ask("rule", "list", "-o", "wide")).out
    assert (await ask("rule", "list", "-o", "name")).out == "minting-queue-backlog\nwatch-only\n"
    said = await ask("rule", "get", "minting-queue-backlog")
    assert "uses: http.post" in said.out
    assert json.loads((await ask("rule", "get", "watch-only", "-o", "json")).out)["mode"] == "observe"
    said = await ask("rule", "get", "watch-onyl")
    assert (said.code, said.err) == (1, 'Error: no rule is named "watch-onyl"\n')


async def test_a_rule_says_what_it_would_have_done(ask: Cli, site: Site) -> None:
    """Observed runs teach: how often the rule would have acted, and how often that was not needed."""
    await site.post("/api/v1/alertmanager", json=delivery(("Other", {"n": "1"}), ("Other", {"n": "2"})))
    store, now = site.service.store, site.service.clock.now()
    for _ in range(2):  # They act on one target, so one after the other.
        (claim,) = await store.claim("worker", 30, 2)
        after = claim.run.move(State.OBSERVED, "observe", "would have done: pause", now=now)
        await store.save(after, Entry(event="run.observed", actor="remediator", run_id=after.id))
    await site.post("/api/v1/alertmanager", json=delivery(("Other", {"n": "1"}), status="resolved"))
    tally = json.loads((await ask("rule", "get", "watch-only", "-o", "json")).out)["tally"]
    assert (tally["matched"], tally["would_have_acted"], tally["self_resolved"]) == (2, 2, 1)
    assert tally["self_resolved_after"] == "23m5s"
    out = (await ask("rule", "get", "watch-only")).out
    assert "2 times; 1 of them went away without this rule, half of those within 23m5s" in out
    assert "0 problems\n" in (await ask("rule", "get", "minting-queue-backlog")).out


async def test_a_rule_is_paused_and_resumed(ask: Cli, site: Site) -> None:
    """The pause says until when, is seen in the list, and ends when resumed."""
    said = await ask("rule", "pause", "watch-only", "--for", "2h", "--reason", "release")
    assert said.out.startswith("paused: rule:watch-only until 20")
    assert "release" in (await ask("rule", "list")).out
    (pause,) = await site.service.store.pauses()
    assert pause.until is not None
    assert 7190 < pause.until - pause.since < 7210
    assert (await ask("rule", "resume", "watch-only")).out == "nothing is paused\n"
    assert (await ask("rule", "resume", "watch-only")).code == 1


async def test_the_kill_switch(ask: Cli, site: Site) -> None:
    """Everything, one rule or one target; what is paused is printed each time."""
    said = await ask("pause", "--reason", "incident 42")
    assert said.out == "paused: global until resumed: incident 42 (by user:anonymous)\n"
    assert (await ask("pause", "--target", "minting-api", "--reason", "x")).out.count("paused: ") == 2
    assert {pause.scope for pause in await site.service.store.pauses()} == {"global", "target:minting-api"}
    assert "target:minting-api" in (await ask("resume", "--reason", "over")).out
    assert (await ask("resume", "--target", "minting-api")).out == "nothing is paused\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("pause",), 2),
        (("pause", "--reason", ""), 1),
        (("pause", "--reason", "x", "--for", "soon"), 1),
        (("pause", "--reason", "x", "--rule", "watch-onyl"), 1),
        (("pause", "--reason", "x", "--rule", "watch-only", "--target", "minting-api"), 2),
        (("rule", "pause", "watch-onyl", "--reason", "x"), 1),
        (("resume",), 1),
    ],
)
async def test_a_mistake_pauses_nothing_and_says_so(
    ask: Cli, site: Site, arguments: tuple[str, ...], code: int
) -> None:
    """Without a reason, for no time, or under a name that does not exist: an error, and nothing is paused."""
    said = await ask(*arguments)
    assert said.code == code
    assert said.err
    assert not await site.service.store.pauses()
