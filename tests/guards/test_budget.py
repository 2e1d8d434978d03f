"""budget: what all rules of one service may disturb together, counted where it is exact."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, Limit
from remediator.guards.budget import Budget
from tests.engine_world import house, place
from tests.guards.context import context
from tests.guards.test_removed import TWO


async def test_leaves_the_counting_to_the_licence() -> None:
    """The limit names the service and all of its rules, and counts from the end of a run."""
    guard = Budget.model_validate({"runs": 2, "settle": "5m"})
    assert (await guard.check(context())).decision is Decision.ALLOW
    assert guard.limits(context()) == (
        Limit(
            guard="budget", scope="service", runs=2, window=300.0, since="end", service="shop", rules=("a", "b")
        ),
    )


async def test_a_rule_without_a_service_has_no_budget() -> None:
    """Nobody's budget is not an endless one."""
    verdict = await Budget().check(context(service="", siblings=("a",)))
    assert (verdict.decision, verdict.reason) == (Decision.DENY, "budget")


@pytest.mark.parametrize("parameters", [{"runs": 0}, {"settle": "0s"}, {"runs": True}])
def test_what_guards_nothing_is_refused(parameters: dict[str, object]) -> None:
    """No run and no time are refused when rules load."""
    with pytest.raises(ValidationError):
        Budget.model_validate(parameters)


@pytest.mark.looptime
async def test_rules_of_one_service_wait_for_each_other_to_the_second() -> None:
    """The second rule acts elsewhere five minutes after the first has ended, a rule of another service at once."""
    rules = TWO.replace("GUARD", "{budget: {runs: 1, settle: 5m}}") + """
  - name: other
    mode: auto
    service: till
    when: {alert: Third}
    guards: [{budget: {runs: 1, settle: 5m}}]
    steps: [{uses: place.kick, target: elsewhere, with: {thing: db}}]
"""
    async with house(rules, place(), place(name="there"), place(name="elsewhere")) as h:
        await h.end(await h.fire())
        begun = h.clock.now()
        second = await h.fire("Second")
        third = await h.end(await h.fire("Third"))
        await h.end(second)
        assert [effect.target for effect in h.effects] == ["here", "elsewhere", "there"]
        assert h.effects[2].begun - begun == pytest.approx(300, abs=1.5)
        assert third.updated_at - begun < 2


@pytest.mark.looptime
async def test_twenty_at_once_share_it_exactly() -> None:
    """Twenty problems of one service at the same moment: two act, on however many targets."""
    more = "".join(
        f"\n  - {{name: r{n}, mode: auto, service: shop, when: {{alert: A{n}}}, guards: [{{budget: 2}}],"
        f" steps: [{{uses: place.kick, target: t{n}, with: {{thing: x}}}}]}}"
        for n in range(20)
    )
    async with house("rules:" + more, *(place(name=f"t{n}") for n in range(20))) as h:
        await h.post(*(h.alert(f"A{n}") for n in range(20)))
        await asyncio.sleep(120)
        assert len(h.effects) == 2
