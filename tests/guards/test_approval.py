"""approval: nothing happens until a person has said yes to this very change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, GuardContext
from remediator.guards.approval import Approval

CONTEXT = GuardContext(
    run_id="r", rule="a", mode="approve", now=0.0, labels={}, severity="", targets=("prod",), created_at=0.0,
    evidence={}, approved=False, pauses={},
)  # fmt: skip


async def test_holds_until_approved() -> None:
    """Without a yes the run is held with reason ``approval`` and says for how many people it waits."""
    verdict = await Approval(needed=2).check(CONTEXT)
    assert (verdict.decision, verdict.reason, verdict.until) == (Decision.HOLD, "approval", None)
    assert "2 people" in verdict.message


async def test_allows_once_approved() -> None:
    """With a yes to exactly this change it allows, and adds no limit of its own."""
    assert (await Approval().check(replace(CONTEXT, approved=True))).decision is Decision.ALLOW
    assert Approval().limits(CONTEXT) == ()


def test_one_person_and_a_quarter_of_an_hour_is_the_default() -> None:
    """Written without parameters it needs one person, who has fifteen minutes."""
    guard = Approval.model_validate({})
    assert (guard.needed, guard.expires) == (1, 900.0)


@pytest.mark.parametrize("parameters", [{"needed": 0}, {"needed": 11}, {"expires": "0s"}, {"need": 1}, {"needed": "2"}])
def test_an_approval_of_nobody_is_refused(parameters: dict[str, object]) -> None:
    """Nobody, a crowd, no time and misspelt keys are refused when rules load."""
    with pytest.raises(ValidationError):
        Approval.model_validate(parameters)


UNLESS = Approval.model_validate({"unless": "probes.spent.value < 4e9 && severity != 'critical'"})
AUTO = replace(CONTEXT, mode="auto", severity="warning")


def _saw(**evidence: object) -> dict[str, object]:
    return {name: {"ok": value is not None, "value": {"value": value}} for name, value in evidence.items()}


@pytest.mark.parametrize(
    ("context", "decision"),
    [
        (replace(AUTO, evidence=_saw(spent=1e9)), Decision.ALLOW),
        (replace(AUTO, evidence=_saw(spent=5e9)), Decision.HOLD),
        (replace(AUTO, evidence=_saw(spent=1e9), severity="critical"), Decision.HOLD),
        (replace(AUTO, evidence=_saw(spent=None)), Decision.HOLD),
        (replace(AUTO, evidence=_saw(other=1e9)), Decision.HOLD),
        (replace(AUTO, evidence=_saw(spent="few")), Decision.HOLD),
        (replace(AUTO, evidence=_saw(spent=1e9), mode="approve"), Decision.HOLD),
    ],
)
async def test_what_is_unusual_asks_somebody(context: GuardContext, decision: Decision) -> None:
    """While the condition is so nobody is asked; what is not so, unknown, ill-typed, or in mode approve asks."""
    assert (await UNLESS.check(context)).decision is decision
    assert UNLESS.excused(context) == (decision is Decision.ALLOW)
    assert (await UNLESS.check(replace(context, approved=True))).decision is Decision.ALLOW


def test_the_condition_is_checked_when_rules_load() -> None:
    """A text that is no condition, or reads what is not there, is refused; the probes it reads are told."""
    assert UNLESS.reads() == ["spent"]
    for text in ("", "probes.spent.value <", "steps.a.b > 1", "1 + 1", "labels"):
        with pytest.raises(ValidationError):
            Approval.model_validate({"unless": text})
