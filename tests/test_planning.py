"""From a rule to a plan: what is made ready, what expressions can see, and what a run must be alone on."""

from __future__ import annotations

import pytest

from remediator.errors import InputError
from remediator.guards.approval import Approval
from remediator.incident import Incident, Member
from remediator.planning import (
    Plans,
    effective_mode,
    environment,
    locks,
    make_action,
    make_guard,
    make_plan,
    needed,
    waves,
)
from remediator.rule import Mode, ProbeCall, Rule
from remediator.run import Lock
from tests.engine_world import Kick, TestRegistry, place

REGISTRY = TestRegistry()


def a_rule(**more: object) -> Rule:
    """A rule with one kick of the lamp."""
    step = {"uses": "place.kick", "target": "here", "with": {"thing": "lamp"}}
    return Rule.model_validate({"name": "one", "when": {"alert": "Alarm"}, "steps": [step], **more})


def test_guards_of_the_settings_stand_before_those_of_the_rule() -> None:
    """What the operator demands of every rule is asked first."""
    plan = make_plan(a_rule(guards=[{"cooldown": "10m"}]), REGISTRY, [{"rate_limit": {"runs": 1, "per": "1h"}}])
    assert [name for name, _ in plan.guards] == ["rate_limit", "cooldown"]


def test_the_plan_knows_the_approval_that_is_asked() -> None:
    """An approval guard written in the rule is found; without one there is none."""
    assert isinstance(make_plan(a_rule(guards=[{"approval": {"needed": 2}}]), REGISTRY).approval, Approval)
    assert make_plan(a_rule(), REGISTRY).approval is None


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"cooldwn": "10m"}, 'no guard is named "cooldwn"'),
        ({"cooldown": 5}, "guard cooldown: for: "),
        ({"cooldown": "0s"}, "guard cooldown"),
    ],
)
def test_a_guard_that_cannot_be_made_says_which_and_why(entry: dict[str, object], says: str) -> None:
    """An error names the guard and the parameter."""
    with pytest.raises(InputError, match=says):
        make_guard(entry, REGISTRY)


def test_plans_are_made_once_and_not_kept_for_ever() -> None:
    """The same digest gives the same plan; of very many only the newest thousand are kept."""
    plans = Plans(REGISTRY)
    first = plans.make(a_rule())
    assert plans.make(a_rule()) is first
    assert plans.get(a_rule().digest) is first
    for number in range(1001):
        plans.make(a_rule(description=str(number)))
    assert plans.get(a_rule().digest) is None


def member(ended_at: float | None = None, **labels: str) -> Member:
    """One alert of an incident."""
    return Member(labels, {"summary": "bad"}, 100.0, 100.0, ended_at)


def test_expressions_see_the_incident_and_nothing_that_failed() -> None:
    """Common labels only, all alerts, evidence of probes that saw something, results of steps that are done."""
    members = {"a": member(env="prod", pod="1"), "b": member(150.0, env="prod", pod="2")}
    incident = Incident("i", "k", {"env": "prod"}, members, 100.0, 0.0)
    progress = {
        "evidence": {"good": {"ok": True, "value": {"n": 1}}, "bad": {"ok": False, "value": {}}},
        "steps": [
            {"id": "first", "state": "done", "outcome": {"data": {"n": 2}}},
            {"id": "second", "state": "waiting", "outcome": {"data": {"n": 3}}},
        ],
    }
    seen = environment(incident, "SEV1", progress, now=160.0)
    assert seen["labels"] == {"env": "prod"}
    assert seen["count"] == 1
    assert [alert["status"] for alert in seen["alerts"]] == ["firing", "resolved"]
    assert seen["alert"] == {"resolved": False, "firing": True, "for_seconds": 60.0}
    assert seen["probes"] == {"good": {"n": 1}}
    assert seen["steps"] == {"first": {"n": 2}}
    assert seen["severity"] == "SEV1"


def test_an_action_is_made_of_its_parameters_after_they_were_filled_in() -> None:
    """A placeholder becomes the value it looks up, and the value must pass the parameter's own check."""
    step = a_rule(steps=[{"uses": "place.kick", "target": "here", "with": {"thing": "${{ labels.thing }}"}}]).steps[0]
    action = make_action(step, {"labels": {"thing": "lamp"}}, REGISTRY)
    assert isinstance(action, Kick)
    assert action.thing == "lamp"
    with pytest.raises(InputError, match=r"place\.kick: thing: "):
        make_action(step, {"labels": {"thing": "NOT LOWER"}}, REGISTRY)


def test_probes_look_after_those_that_they_read() -> None:
    """All that can look at the same time does; what reads another one waits for that, and for nothing else."""

    def call(name: str, *reads: str) -> ProbeCall:
        given = {f"p{n}": f"${{{{ probes.{each}.x }}}}" for n, each in enumerate(reads)}
        return ProbeCall.model_validate({"id": name, "uses": "place.look", "target": "here", "with": given})

    calls = [call("a"), call("b", "a"), call("c"), call("d", "b", "c"), call("e", "a")]
    assert [[each.id for each in wave] for wave in waves(calls)] == [["a", "c"], ["b", "e"], ["d"]]
    assert [*waves([])] == []
    assert [each.id for each in needed(calls, ["d"])] == ["a", "b", "c", "d"]
    assert [each.id for each in needed(calls, ["e", "c"])] == ["a", "c", "e"]
    assert needed(calls, []) == []


def test_an_action_that_does_not_exist_is_an_input_error() -> None:
    """A rule kept from an older version may name what is gone."""
    step = a_rule(steps=[{"uses": "place.gone", "target": "here"}]).steps[0]
    with pytest.raises(InputError, match=r'no action is named "place\.gone"'):
        make_action(step, {}, REGISTRY)


def test_locks_name_the_subject_where_it_is_written_and_the_target_where_it_is_not() -> None:
    """What a placeholder decides later is locked as a whole target now; max_runs is the target's."""
    steps = [
        {"uses": "place.kick", "target": "here", "with": {"thing": "lamp"}},
        {"uses": "place.kick", "target": "here", "with": {"thing": "lamp"}},
        {"uses": "place.kick", "target": "there", "with": {"thing": "${{ labels.thing }}"}},
        {"uses": "place.gone", "target": "nowhere", "with": {}},
    ]
    targets = {"here": place(max_runs=3), "there": place(name="there")}
    assert locks(a_rule(steps=steps), REGISTRY, targets) == (
        Lock("here", "lamp", 3), Lock("there", "", 1), Lock("nowhere", "", 1),
    )  # fmt: skip


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("most", list(Mode))
def test_the_mode_is_never_above_the_most(mode: Mode, most: Mode) -> None:
    """observe < approve < auto; the lower of the two counts."""
    order = [Mode.OBSERVE, Mode.APPROVE, Mode.AUTO]
    assert effective_mode(a_rule(mode=mode.value), most) is order[min(order.index(mode), order.index(most))]
