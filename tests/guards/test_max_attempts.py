"""max_attempts: so many runs for one problem within a window, then people; to the second and exact."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, Limit
from remediator.guards.max_attempts import MaxAttempts
from remediator.run import State
from tests.engine_world import house
from tests.guards.context import NOW, Said, context, ended
from tests.guards.test_removed import ONE

GUARD = MaxAttempts.model_validate({"runs": 2, "per": "1h"})


async def test_the_run_after_the_last_attempt_is_denied() -> None:
    """However the attempts ended: two within the hour are enough; one second after the hour one is not."""
    facts = Said(runs=[ended(NOW, "succeeded"), ended(NOW - 60, "failed")])
    verdict = await GUARD.check(context(facts))
    assert (verdict.decision, verdict.reason) == (Decision.DENY, "max_attempts")
    assert (await GUARD.check(context(facts, at=NOW - 120 + 3599))).decision is Decision.DENY
    assert (await GUARD.check(context(facts, at=NOW - 120 + 3600))).decision is Decision.ALLOW
    assert facts.asked[0] == ("incident", NOW - 3600)


async def test_fewer_may_try() -> None:
    """Nothing and one attempt leave a try."""
    for runs in ([], [ended(NOW)]):
        assert (await GUARD.check(context(Said(runs=runs)))).decision is Decision.ALLOW


def test_the_licence_counts_once_more() -> None:
    """Two runs at the same moment cannot both be the last attempt."""
    assert GUARD.limits(context()) == (Limit(guard="max_attempts", scope="incident", runs=2, window=3600.0),)


@pytest.mark.parametrize("parameters", [{"runs": 0}, {"per": "0s"}, {"runs": 1.5}])
def test_what_guards_nothing_is_refused(parameters: dict[str, object]) -> None:
    """No attempt and no window are refused when rules load."""
    with pytest.raises(ValidationError):
        MaxAttempts.model_validate(parameters)


@pytest.mark.looptime
async def test_a_problem_that_comes_back_counts_on() -> None:
    """The third life of one problem is denied; another problem is not."""
    async with house(ONE.replace("GUARD", "{max_attempts: 2}")) as h:
        ends = []
        for _ in range(3):
            ends.append((await h.end(await h.fire(n="1"))).state)
            await asyncio.sleep(5)
            await h.resolve(n="1")
            await asyncio.sleep(5)
        assert ends == [State.SUCCEEDED, State.SUCCEEDED, State.DENIED]
        assert (await h.end(await h.fire(n="2"))).state is State.SUCCEEDED
