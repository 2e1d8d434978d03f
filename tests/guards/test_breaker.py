"""breaker: failures in a row open it durably, also those that did not help; people or a probe close it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.facts import PastRun
from remediator.guard import Decision
from remediator.guards.breaker import Breaker
from remediator.run import State
from tests.engine_world import House, Outside, house, place
from tests.guards.context import NOW, Said, context, ended, seen
from tests.guards.test_removed import ONE

GUARD = Breaker()


@pytest.mark.parametrize(
    ("newest_first", "opens"),
    [
        ([("failed", "")] * 3, True),
        ([("failed", "")] * 2, False),
        ([("failed", "ineffective"), ("needs_human", "unknown_outcome"), ("failed", "unverified")], True),
        ([("needs_human", "unknown_verification"), ("succeeded", "ineffective"), ("failed", "")], True),
        ([("failed", "")] * 2 + [("succeeded", "verified"), ("failed", "")], False),
        ([("succeeded", "verified")] + [("failed", "")] * 5, False),
        ([("failed", ""), ("cancelled", "by_person"), ("failed", ""), ("expired", ""), ("failed", "")], True),
        ([("denied", ""), ("cancelled", ""), ("expired", "")], False),
    ],
)
async def test_failures_in_a_row_open_it(newest_first: list[tuple[str, str]], opens: bool) -> None:
    """Failed, left to a person and without effect count alike; a success ends the row; other ends say nothing."""
    facts = Said(runs=[ended(NOW - 100 * n - 1, state, why) for n, (state, why) in enumerate(newest_first)])
    verdict = await GUARD.check(context(facts))
    assert verdict.decision is (Decision.HOLD if opens else Decision.ALLOW)
    assert (("breaker", "rule:a") in facts.states) is opens
    if opens:
        assert (verdict.reason, verdict.until, verdict.about) == ("breaker", None, f"breaker:rule:a:{NOW:.3f}")


async def test_what_goes_on_is_no_failure_yet() -> None:
    """A run that is acting neither opens the breaker nor ends the row."""
    runs = [PastRun("on", "a", "running", "", NOW - 5, None), *(ended(NOW - n - 1) for n in range(3))]
    assert (await GUARD.check(context(Said(runs=runs)))).decision is Decision.HOLD
    assert (await GUARD.check(context(Said(runs=runs[:3])))).decision is Decision.ALLOW


async def test_open_stays_open_whatever_the_ledger_says() -> None:
    """What is kept as open holds also when the failed runs were removed or the guard now wants more of them."""
    facts = Said(runs=[ended(NOW - n - 1) for n in range(3)])
    await GUARD.check(context(facts))
    facts.runs.clear()
    assert (await Breaker(failures=50).check(context(facts, at=NOW + 9e6))).decision is Decision.HOLD


async def test_a_release_begins_the_count_anew() -> None:
    """After a person has looked the old failures do not count, and as many new ones open it again."""
    facts = Said(runs=[ended(NOW - n - 1) for n in range(3)])
    await GUARD.check(context(facts))
    facts.release("breaker", "rule:a", NOW + 10)
    assert (await GUARD.check(context(facts, at=NOW + 11))).decision is Decision.ALLOW
    facts.runs += [ended(NOW + 20), ended(NOW + 30)]
    assert (await GUARD.check(context(facts, at=NOW + 31))).decision is Decision.ALLOW
    facts.runs += [ended(NOW + 40)]
    assert (await GUARD.check(context(facts, at=NOW + 41))).decision is Decision.HOLD


@pytest.mark.parametrize(
    ("evidence", "closes"),
    [(seen(health={"status": 200}), True), (seen(health={"status": 500}), False), (seen(health="refused"), False),
     ({}, False), (seen(health={}), False)],
)  # fmt: skip
async def test_only_a_probe_that_shows_it_closes_it(evidence: dict[str, Any], closes: bool) -> None:
    """True closes; false, a failed probe and a missing value are all no."""
    guard = Breaker(close_if="probes.health.status == 200")
    facts = Said(runs=[ended(NOW - n - 1) for n in range(3)])
    verdict = await guard.check(context(facts, evidence=evidence))
    assert verdict.decision is (Decision.ALLOW if closes else Decision.HOLD)
    assert facts.states["breaker", "rule:a"].open is not closes
    assert guard.reads() == {"health"}


@pytest.mark.parametrize("scope", ["rule", "incident", "target", "global"])
async def test_each_scope_has_its_own(scope: str) -> None:
    """What opened for one rule, problem or target is open for that one alone."""
    facts = Said(runs=[ended(NOW - n - 1) for n in range(3)])
    guard = Breaker.model_validate({"scope": scope})
    await guard.check(context(facts))
    (kept,) = facts.states
    names = {"rule": "rule:a", "incident": "incident:key", "target": "target:prod", "global": "global"}
    assert kept == ("breaker", names[scope])


@pytest.mark.parametrize("parameters", [
    {"failures": 0}, {"close_if": ""}, {"close_if": "probes.x ="}, {"close_if": "1 + 1"}, {"close_if": "steps.x.y"},
    {"scope": "service"},
])  # fmt: skip
def test_what_cannot_be_right_is_refused(parameters: dict[str, object]) -> None:
    """No failures, a condition that is none, and one over what is not known here are refused when rules load."""
    with pytest.raises(ValidationError):
        Breaker.model_validate(parameters)


async def _life(h: House, n: int, within: float = 15) -> State:
    run_id = await h.fire(n=str(n))
    await asyncio.sleep(within)
    return (await h.store.run(run_id)).state


@pytest.mark.looptime
async def test_it_stays_open_across_restarts_until_a_person_releases_it(tmp_path: Path) -> None:
    """Three failures, a new process on the same file: still open. Released, what waited acts."""
    rules = ONE.replace("GUARD", "{breaker: 3}")
    where = str(tmp_path / "store.db")
    broken = Outside()
    broken.faults.extend(["denied"] * 3)
    async with house(rules, place(broken), path=where) as h:
        assert [await _life(h, n) for n in range(4)] == [State.FAILED] * 3 + [State.HELD]
    async with house(rules, place(Outside()), path=where) as h:
        run_id = await h.fire(n="5")
        assert (await h.state(run_id, State.HELD)).reason == "breaker"
        await asyncio.sleep(60)
        assert not h.effects
        (closed,) = await h.store.close_guard("breaker", "rule:one", "user:ann", "the disk was full")
        h.wake()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert closed.actor == "user:ann" and len(h.effects) >= 1


@pytest.mark.looptime
async def test_remedies_that_do_not_help_open_it() -> None:
    """Done and without effect is a failure: after two of them the third run does not act."""
    rules = ONE.replace("GUARD", "{breaker: 2}") + "    verify: {until: alert.resolved, within: 10s, every: 5s}\n"
    async with house(rules, place()) as h:
        assert [await _life(h, n) for n in range(3)] == [State.FAILED, State.FAILED, State.HELD]
        assert len(h.effects) == 2


@pytest.mark.looptime
async def test_a_probe_closes_it_while_a_run_waits() -> None:
    """The held run looks again every few seconds; once the probe shows that all is well it acts."""
    rules = ONE.replace("GUARD", "{breaker: {failures: 1, close_if: probes.fleet.n == 7}}")
    outside = Outside()
    outside.faults.append("denied")
    async with house(rules, place(outside)) as h:
        assert [await _life(h, n) for n in range(2)] == [State.FAILED, State.HELD]
        outside.values["fleet"] = 7
        await asyncio.sleep(16)
        assert len(h.effects) == 1
        assert "guard.closed" in [record.event for record in await h.store.audit(limit=1000)]
