"""Proves what an approver's yes is bound to, and when a licence to act has run out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.action import ActionContext, Change, canonical_json
from remediator.errors import TemporaryError
from tests.stores.conformance.kit import StoreClock

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_a_value_has_one_text(value: Any) -> None:
    """Equal values have equal texts whatever the order of their keys, and the text is JSON that reads back."""
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert "\n" not in text


def test_the_text_is_utf_8_with_sorted_keys_and_no_spaces() -> None:
    """Another program makes the same text from the description alone."""
    assert canonical_json({"b": [1, 2.5, None], "ä": "🙂", "a": True}) == '{"a":true,"b":[1,2.5,null],"ä":"🙂"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {1}, b"x", object()])
def test_what_is_no_json_has_no_text(value: Any) -> None:
    """Nothing is digested that two readers could read differently."""
    with pytest.raises((ValueError, TypeError)):
        canonical_json({"value": value})


CHANGE = Change(
    summary="3 → 5", before={"replicas": 3}, after={"replicas": 5}, volatile={"resourceVersion": "7"}
)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Change(summary="3 → 5", before={"replicas": 3}, after={"replicas": 5}), True),
        (Change(summary="3 → 5", before={"replicas": 3}, after={"replicas": 5}, volatile={"x": 1}), True),
        (Change(summary="3 → 6", before={"replicas": 3}, after={"replicas": 5}), False),
        (Change(summary="3 → 5", before={"replicas": 4}, after={"replicas": 5}), False),
        (Change(summary="3 → 5", before={"replicas": 3}, after={"replicas": 6}), False),
        (Change(summary="3 → 5", before={"replicas": 3}, after={"replicas": 5, "paused": True}), False),
        (Change(summary="3 → 5", before={"replicas": 5}, after={"replicas": 3}), False),
    ],
)
def test_a_yes_is_bound_to_all_that_was_shown(other: Change, same: bool) -> None:
    """Whatever an approver saw differently makes another digest; what changes by itself does not."""
    assert (other.digest == CHANGE.digest) is same


def test_a_change_survives_its_json() -> None:
    """What is stored with a run is the change that was looked at, digest and all."""
    again = Change.from_json(json.loads(json.dumps(CHANGE.as_json())))
    assert (again, again.digest) == (CHANGE, CHANGE.digest)
    assert Change.from_json({"summary": "s", "before": {}, "after": {}}).volatile == {}


def test_a_change_that_changes_nothing_is_empty() -> None:
    """Where the target already is as wanted nothing will be done, whatever the summary says."""
    assert Change(summary="5 → 5", before={"replicas": 5}, after={"replicas": 5}).empty
    assert not CHANGE.empty


def test_no_effect_begins_after_the_licence_ran_out() -> None:
    """Up to its deadline a licence holds; after it nothing may be sent, and that is a temporary failure."""
    clock = StoreClock()
    context = ActionContext(run_id="r", step="s", attempt=1, key="r-0", clock=clock, deadline=clock.monotonic() + 5)
    clock.pass_(5)
    context.check_deadline()
    clock.pass_(0.001)
    with pytest.raises(TemporaryError) as error:
        context.check_deadline()
    assert error.value.reason == "licence_expired"
