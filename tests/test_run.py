"""Proves that the table of moves is the whole truth: nothing else can happen, and its diagram is current."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from remediator.errors import StateError
from remediator.run import LIVE, MOVES, NOT_STARTED, SOURCES, Lock, Run, State, diagram
from scripts.states import page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "states.md"


def _run(state: State) -> Run:
    return Run(
        id="r1", rule="rule", rule_digest="d", incident_id="i1", state=state, reason="was", message="was", mode="auto",
        epoch=3, version=7, owner="w1", lease_until=30.0, wake_at=5.0, created_at=1.0, updated_at=2.0, due_at=1.0,
        locks=(Lock("prod", "web", 1), Lock("prod", "db", 1), Lock("stage", "", 1)), tries=2, progress={"a": 1},
    )  # fmt: skip


@pytest.mark.parametrize(("was", "to"), list(product(State, State)))
def test_only_moves_of_the_table_can_be_made(was: State, to: State) -> None:
    """Every pair of states that is not in the table raises, and changes nothing."""
    run = _run(was)
    if (was, to) in MOVES:
        assert run.move(to, "why", "because", now=9.0).state is to
    else:
        with pytest.raises(StateError, match=f"no move from {was} to {to}"):
            run.move(to, "why", "because", now=9.0)
        assert run == _run(was)


def test_a_move_changes_what_it_says_and_nothing_else() -> None:
    """The run's identity, its plan and its fences are the same after every move."""
    run = _run(State.RUNNING)
    after = run.move(
        State.HELD, "cooldown", "not yet", now=9.0, wake_at=60.0, progress={"b": 2}, mode="approve", tries=0
    )
    assert (after.reason, after.message, after.updated_at, after.wake_at) == ("cooldown", "not yet", 9.0, 60.0)
    assert (after.progress, after.mode, after.tries) == ({"b": 2}, "approve", 0)
    for name in ("id", "rule", "rule_digest", "incident_id", "epoch", "version", "created_at", "due_at", "locks"):
        assert getattr(after, name) == getattr(run, name)
    plain = run.move(State.RUNNING, "step_done", "next", now=9.0)
    assert (plain.wake_at, plain.progress, plain.mode, plain.tries) == (5.0, {"a": 1}, "auto", 2)


def test_only_a_running_run_has_an_owner() -> None:
    """Leaving the owner's hands ends the lease, so that the next one need not wait for it."""
    for was, to in MOVES:
        after = _run(was).move(to, "why", "because", now=9.0)
        assert (after.owner, after.lease_until) == (("w1", 30.0) if to is State.RUNNING else ("", 0.0))


def test_ends_are_ends() -> None:
    """From an end there is no way on but by a person: who closes what waits, or has something tried again."""
    ends = set(State) - LIVE
    again = {(state, State.QUEUED) for state in (State.FAILED, State.DENIED, State.EXPIRED)}
    assert {was for was, _ in MOVES.keys() - again} & ends == {State.NEEDS_HUMAN}
    assert all(to in ends for was, to in MOVES if was is State.NEEDS_HUMAN)
    assert not any(to is State.QUEUED for was, to in MOVES.keys() - again if was is not State.RUNNING)


def test_every_state_can_be_reached_and_every_live_one_left() -> None:
    """No state is only a word, and no run can be stuck where the table knows no way out."""
    reached, front = {State.QUEUED}, [State.QUEUED]
    while front:
        was = front.pop()
        new = {to for a, to in MOVES if a is was} - reached
        reached |= new
        front += new
    assert reached == set(State)
    assert {was for was, to in MOVES if was is not to} >= LIVE
    assert NOT_STARTED < LIVE


def test_nothing_acts_without_being_claimed() -> None:
    """Only a claimed run can verify, succeed or fail by itself: queued and held ones have no such move."""
    for was in NOT_STARTED:
        assert {to for a, to in MOVES if a is was} <= {State.RUNNING, State.HELD, State.CANCELLED, State.DENIED}


def test_sources_are_the_table_turned_round() -> None:
    """What a store demands of the state that it replaces is exactly what the table says."""
    assert {(was, to) for to, sources in SOURCES.items() for was in sources} == set(MOVES)
    assert set(SOURCES) == set(State)


def test_targets_are_named_once() -> None:
    """A run names each of its targets once, in the order of its steps."""
    assert _run(State.QUEUED).targets == ("prod", "stage")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Lock("a", "x", 1), Lock("a", "x", 1), True),
        (Lock("a", "x", 1), Lock("a", "y", 1), False),
        (Lock("a", "", 1), Lock("a", "x", 1), True),
        (Lock("a", "", 1), Lock("a", "", 5), True),
        (Lock("a", "", 1), Lock("b", "", 1), False),
        (Lock("a", "x", 1), Lock("b", "x", 1), False),
    ],
)
def test_the_whole_target_overlaps_each_of_its_parts(one: Lock, other: Lock, overlap: bool) -> None:
    """Two locks are about the same thing if their subjects are equal or one of them is the whole target."""
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap


# the diagram ---------------------------------------------------------------------------------------------------------


def test_the_diagram_holds_every_move_and_is_mermaid() -> None:
    """Each move is one line whose text Mermaid can read: neither a colon nor a semicolon may stand in it."""
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    drawn = {}
    for line in lines[1:]:
        match = re.fullmatch(r"    (\[\*\]|\w+) --> (\[\*\]|\w+)(?:: ([^:;]+))?", line)
        assert match, f"not a line of a Mermaid state diagram: {line}"
        drawn[match[1], match[2]] = match[3]
    assert {pair: why for pair, why in drawn.items() if "[*]" not in pair} == MOVES
    assert {was for was, to in drawn if to == "[*]"} == set(State) - LIVE - {State.NEEDS_HUMAN}


def test_the_page_of_states_is_current() -> None:
    """The reference shows the table as it is in the code; `python -m scripts.states` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page()
