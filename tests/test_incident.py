"""Proves that one life of a problem is opened once, whatever is doubled, late, reordered or told by two reporters."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.alert import Alert
from remediator.incident import Incident, Notice, Seen, group_identity, identity, observe
from tests.lives import KEY, TOLERANCE, Life, Reader, Told, disturbed, in_order, lives_of, straight

GAPS = st.one_of(st.floats(1, 30), st.floats(30, 5_000))
SHAPES = st.lists(st.tuples(GAPS, st.floats(1, 3_000), st.floats(0, 50)), min_size=1, max_size=8)


def _shape(dice: random.Random, most: int) -> list[tuple[float, float, float]]:
    """Gaps and lengths of every size, with many lives so short and close that their starts look alike."""
    near = dice.random() < 0.4
    return [
        (dice.uniform(1, 40 if near else 4_000), dice.uniform(1, 40 if near else 3_000), dice.uniform(0, 50))
        for _ in range(dice.randint(1, most))
    ]


def _check_one_alert(notices: list[Told]) -> None:
    reader, over = Reader(), set[int]()
    for told in notices:
        seen = reader.take(told)
        if seen.notice is Notice.NEW:
            assert told.life.number not in over, "a life that had ended was opened"
        if not told.firing:
            over.add(told.life.number)
        assert len(reader.open()) <= 1
    assert all(count == 1 for count in reader.openings.values()), "one life was opened twice"
    for life in in_order(notices):
        assert reader.openings.get((life.name, life.number)) == 1, "a life was not opened"


@given(SHAPES, st.randoms(use_true_random=False), st.sampled_from((0.0, 20.0, 200.0, 5_000.0)))
@settings(max_examples=400)
def test_one_alert_is_opened_once_a_life(
    shape: list[tuple[float, float, float]], dice: random.Random, late: float
) -> None:
    """However the notices of an alert are doubled, delayed and reordered, a life opens once, never after its end."""
    _check_one_alert(disturbed(lives_of("a", shape), dice, late))


def test_thousands_of_streams_open_each_life_once() -> None:
    """The same over 4,000 numbered streams, so that a failure can be repeated by its number."""
    opened = 0
    for number in range(4_000):
        dice = random.Random(number)
        notices = disturbed(lives_of("a", _shape(dice, 8)), dice, dice.choice((0.0, 30.0, 300.0, 6_000.0)))
        try:
            _check_one_alert(notices)
        except AssertionError as error:
            raise AssertionError(f"stream {number}: {error}") from None
        opened += len(list(in_order(notices)))
    assert opened > 5_000, "the streams are so disturbed that they prove little"


def _group(dice: random.Random) -> list[Life]:
    return [life for name in "abc"[: dice.randint(1, 3)] for life in lives_of(name, _shape(dice, 4))]


def test_a_group_is_opened_at_most_once_by_each_life_of_a_member() -> None:
    """With several members in one incident no life of a member opens twice, nor after its end was told."""
    for number in range(3_000):
        dice = random.Random(number)
        reader, over = Reader(), set[tuple[str, int]]()
        for told in disturbed(_group(dice), dice, dice.choice((0.0, 30.0, 300.0, 6_000.0))):
            seen = reader.take(told)
            about = told.life.name, told.life.number
            assert seen.notice is not Notice.NEW or about not in over, f"stream {number}: opened after its end"
            assert len(reader.open()) <= 1, f"stream {number}: two incidents of one problem are open"
            if not told.firing:
                over.add(about)
        assert all(count == 1 for count in reader.openings.values()), f"stream {number}: opened twice"


def _unions(lives: list[Life]) -> int:
    """How many stretches of time there are in which at least one of the lives goes on."""
    count, until = 0, float("-inf")
    for life in sorted(lives, key=lambda one: one.starts[0]):
        count += life.starts[0] > until
        until = max(until, life.end)
    return count


def test_a_group_told_in_order_is_one_incident_while_anything_fires() -> None:
    """An incident of several alerts opens with the first, goes on while one is left, and closes with the last."""
    for number in range(1_000):
        dice = random.Random(number)
        lives = _group(dice)
        reader = Reader()
        closed = sum(reader.take(told).notice is Notice.CLOSED for told in straight(lives))
        assert sum(reader.openings.values()) == _unions(lives) == closed, f"stream {number}"
        assert not reader.open(), f"stream {number}: an incident is open though every alert has ended"


# --- the cases that the streams found, each told on its own ----------------------------------------------------------


def _told(firing: bool, start: float, end: float = 0.0, name: str = "a") -> Told:
    return Told(start if firing else end, Life(name, 0, (start,), end), firing, start)


def _notices(*tolds: Told) -> list[Notice]:
    reader = Reader()
    return [reader.take(told).notice for told in tolds]


def test_a_late_end_of_a_short_life_does_not_end_the_next_one() -> None:
    """A flapping alert whose second peer repeats the end of the last life keeps its present incident open."""
    first_end = _told(False, 180, 200)
    assert _notices(_told(True, 180), first_end, _told(True, 230), first_end, _told(True, 230)) == [
        Notice.NEW,
        Notice.CLOSED,
        Notice.NEW,
        Notice.STALE,
        Notice.REPEAT,
    ]


def test_an_end_that_comes_first_is_remembered() -> None:
    """A firing notice that is overtaken by its own end starts nothing."""
    assert _notices(_told(False, 500, 600), _told(True, 500)) == [Notice.STALE, Notice.STALE]


def test_an_end_that_comes_first_while_the_last_life_seems_open_is_remembered() -> None:
    """The end of a later life also ends the earlier one of which no end was told, and stays an end."""
    assert _notices(_told(True, 100), _told(False, 500, 600), _told(True, 500)) == [
        Notice.NEW,
        Notice.CLOSED,
        Notice.STALE,
    ]


def test_an_end_that_comes_first_is_remembered_after_an_incident_of_the_group() -> None:
    """An alert of a group that is told to have ended before its start is told opens nothing later."""
    assert _notices(
        _told(True, 300, name="b"), _told(False, 300, 400, name="b"), _told(False, 100, 200), _told(True, 100)
    ) == [Notice.NEW, Notice.CLOSED, Notice.STALE, Notice.STALE]


def test_an_earlier_life_of_a_member_starts_nothing() -> None:
    """A notice older than the alert's last known life is stale, also when other alerts had the newest incident."""
    assert _notices(
        _told(True, 1_000),
        _told(False, 1_000, 1_100),
        _told(True, 2_000, name="b"),
        _told(False, 2_000, 2_100, name="b"),
        _told(True, 500),
    )[-1] is Notice.STALE


def test_alertmanager_may_move_the_start_of_a_life_back() -> None:
    """A merged report with a much earlier start is the same life, and so is the end that carries that start."""
    assert _notices(_told(True, 1_000), _told(True, 500), _told(False, 400, 1_200)) == [
        Notice.NEW,
        Notice.REPEAT,
        Notice.CLOSED,
    ]


def test_a_relapse_is_new_however_soon_it_comes() -> None:
    """A start after the end is a new life even within the tolerance for jitter."""
    assert _notices(_told(True, 100), _told(False, 100, 130), _told(True, 131)) == [
        Notice.NEW,
        Notice.CLOSED,
        Notice.NEW,
    ]


@pytest.mark.parametrize(("start", "notice"), [(1_060.0, Notice.REPEAT), (1_060.5, Notice.NEW), (940.0, Notice.REPEAT)])
def test_the_tolerance_is_exact(start: float, notice: Notice) -> None:
    """Starts that lie as far apart as the tolerance are one life; further apart the earlier one is over."""
    assert TOLERANCE == 60.0
    assert _notices(_told(True, 1_000), _told(True, start))[-1] is notice


def test_a_life_that_begins_again_supersedes_the_open_one() -> None:
    """When the end of a life was lost, its incident is ended where the next one begins."""
    reader = Reader()
    first = reader.take(_told(True, 1_000)).incident
    seen = reader.take(_told(True, 2_000))
    assert seen.superseded is not None
    assert (seen.superseded.id, seen.superseded.ended_at) == (first.id, 2_000)
    assert seen.superseded.firing() == []
    assert seen.superseded.superseded and not seen.incident.superseded
    assert Incident.read_members(json.loads(seen.superseded.members_json())) == dict(seen.superseded.members)


def test_the_last_end_closes_and_dates_the_incident() -> None:
    """Of several alerts the last end closes the incident, and its time is the incident's end."""
    reader = Reader()
    for name in "ab":
        reader.take(_told(True, 1_000, name=name))
    assert reader.take(_told(False, 1_000, 1_500, name="a")).notice is Notice.RESOLVED
    last = reader.take(_told(False, 1_000, 1_400, name="b"))
    assert (last.notice, last.incident.ended_at) == (Notice.CLOSED, 1_500)


# --- words -----------------------------------------------------------------------------------------------------------


def _observe(history: list[Incident], labels: dict[str, str], annotations: dict[str, str]) -> Seen:
    alert = Alert(True, labels, annotations, 100.0, None)
    member, _ = identity(labels, ())
    return observe(
        history, alert, member=member, key=KEY, labels={"team": "x"}, new_id=lambda: "i", now=200.0, tolerance=60.0
    )


def test_common_labels_are_what_all_members_share() -> None:
    """Rules see the labels and annotations that hold for the whole incident, and never one alert's alone."""
    first = _observe([], {"job": "api", "pod": "p1"}, {"summary": "down", "value": "3"}).incident
    assert first.common_labels == {"job": "api", "pod": "p1", "team": "x"}
    both = _observe([first], {"job": "api", "pod": "p2"}, {"summary": "down", "value": "4"}).incident
    assert both.common_labels == {"job": "api", "team": "x"}
    assert both.annotations == {"summary": "down"}


def test_members_survive_their_json() -> None:
    """What a store keeps of an incident's alerts is read back as it was."""
    incident = _observe([], {"job": "api", "größe": "5 €"}, {"summary": "ж"}).incident
    assert Incident.read_members(json.loads(incident.members_json())) == dict(incident.members)


def test_identity_ignores_order_and_dropped_labels_and_nothing_else() -> None:
    """Two alerts are one problem exactly when all labels that count are equal."""
    one, kept = identity({"a": "1", "pod": "x", "b": "2"}, {"pod"})
    assert kept == {"a": "1", "b": "2"}
    assert one == identity({"b": "2", "a": "1"}, set())[0]
    assert one != identity({"a": "1", "b": "3"}, set())[0]
    assert identity({"a": "1b=2"}, set())[0] != identity({"a": "1", "b": "2"}, set())[0]


def test_groups_of_two_rules_are_two_problems() -> None:
    """Rules that group by the same labels never share an incident, and a missing label is an empty one."""
    first, labels = group_identity("one", {"job": "api"}, ["job", "zone"])
    assert labels == {"job": "api", "zone": ""}
    assert first != group_identity("two", {"job": "api"}, ["job", "zone"])[0]
    assert first == group_identity("one", {"job": "api", "pod": "p9"}, ["zone", "job"])[0]
