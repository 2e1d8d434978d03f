"""Placeholders: typed look-ups that are filled in once, and never code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.placeholder import Placeholder, PlaceholderError, examine, fill, find, holds, roots

KNOWN: dict[str, Any] = {
    "labels": {"namespace": "production", "a-b": "dash", "evil": "${{ labels.namespace }}"},
    "annotations": {"value": "17"},
    "probes": {"deps": {"status": 200, "ratio": 0.5, "ok": True, "none": None, "items": [{"n": 1}, {"n": 2}]}},
    "steps": {"scale": {"replicas": 5}},
}


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("plain", "plain"),
        ("${{ labels.namespace }}", "production"),
        ("${{labels.namespace}}", "production"),
        ('${{ labels["a-b"] }}', "dash"),
        ("${{ probes.deps.status }}", 200),
        ("${{ probes.deps.ratio }}", 0.5),
        ("${{ probes.deps.ok }}", True),
        ("${{ probes.deps.none }}", None),
        ("${{ probes.deps.items }}", [{"n": 1}, {"n": 2}]),
        ("${{ probes.deps.items[1].n }}", 2),
        ('${{ probes.deps["items"][0] }}', {"n": 1}),
        ("${{ steps.scale.replicas }}", 5),
        ("ns/${{ labels.namespace }}/x", "ns/production/x"),
        ("${{ probes.deps.status }} ${{ probes.deps.ok }}", "200 true"),
        ("$${{ labels.namespace }}", "${{ labels.namespace }}"),
        ("a $${{ b", "a ${{ b"),
        ("$5 and {{ x }}", "$5 and {{ x }}"),
        ({"a": ["${{ labels.namespace }}", 3]}, {"a": ["production", 3]}),
        (7, 7),
    ],
)
def test_fills_in_values_with_their_types(value: Any, filled: Any) -> None:
    """A value that is only a placeholder keeps the type of what it names; inside a text it becomes text."""
    result = fill(value, KNOWN)
    assert result == filled
    assert type(result) is type(filled)


def test_what_was_filled_in_is_not_looked_at_again() -> None:
    """A label whose value looks like a placeholder stays that text: nobody injects a look-up through an alert."""
    assert fill("${{ labels.evil }}", KNOWN) == "${{ labels.namespace }}"
    assert fill("x ${{ labels.evil }}", KNOWN) == "x ${{ labels.namespace }}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${{ labels.nope }}", "labels.nope does not exist, so labels.nope cannot be filled in"),
        ("${{ probes.deps.items[2].n }}", "probes.deps.items[2] does not exist"),
        ("${{ probes.deps.status.x }}", "probes.deps.status.x does not exist"),
        ("${{ probes.gone.status }}", "probes.gone does not exist"),
        ("a ${{ probes.deps.items }}", "is a list, which cannot stand inside a text"),
        ("a ${{ probes.deps.none }}", "is nothing (null), which cannot stand inside a text"),
        ("a ${{ probes.deps }}", "is a map, which cannot stand inside a text"),
    ],
)
def test_what_is_missing_is_an_error(value: str, message: str) -> None:
    """A placeholder without a value never becomes an empty text: it is an error that names what is missing."""
    with pytest.raises(PlaceholderError) as caught:
        fill({"with": [value]}, KNOWN)
    assert message in str(caught.value)
    assert caught.value.path == ("with", 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${{ labels.x", 'is never closed by "}}"'),
        ("${{ }}", "a placeholder is a path"),
        ("${{ env.HOME }}", 'nothing is named "env" here'),
        ("${{ labels }}", "labels is looked into by a name"),
        ("${{ labels[0] }}", "labels is looked into by a name"),
        ("${{ labels.x | upper }}", '"| upper" is no part of a path'),
        ("${{ labels.x + 1 }}", "not code"),
        ("${{ labels.x.y }}", "is text and has nothing inside"),
        ("${{ probes.a.__class__() }}", '"()" is no part of a path'),
        ('${{ labels["a\\"b"] }}', "is no part of a path"),
    ],
)
def test_refuses_everything_that_is_not_a_path(value: str, message: str) -> None:
    """There is no template language: filters, arithmetic, calls and unknown names are refused when rules load."""
    with pytest.raises(PlaceholderError) as caught:
        find({"a": ["x", value]})
    assert message in str(caught.value)
    assert (caught.value.path, caught.value.offset) == (("a", 1), 0)


def test_keys_take_no_placeholders() -> None:
    """The name of a parameter is never made of an alert's text."""
    with pytest.raises(PlaceholderError, match="cannot stand in a key"):
        find({"${{ labels.x }}": 1})
    with pytest.raises(PlaceholderError, match="cannot stand in a key"):
        fill({"${{ labels.x }}": 1}, KNOWN)


def test_lists_where_placeholders_stand() -> None:
    """Each placeholder is found with its place and its path; malformed ones do not hide the others."""
    value = {"a": "x ${{ probes.deps.items[0] }}", "b": "${{ bad }}", "c": ["${{ labels.y }}"]}
    found = examine(value)
    assert [type(each) for each in found] == [Placeholder, PlaceholderError, Placeholder]
    first = found[0]
    assert isinstance(first, Placeholder)
    assert (str(first), first.path, first.offset) == ("probes.deps.items[0]", ("a",), 2)
    assert roots({"c": value["c"], "a": value["a"]}) == {"labels", "probes"}
    assert holds(value)
    assert not holds({"a": ["$x", {"b": 1}]})


def test_prints_a_path_that_needs_quotes() -> None:
    """A placeholder prints as it would be written, names with other characters in brackets."""
    (found,) = find('${{ labels["a-b"] }}')
    assert str(found) == 'labels["a-b"]'


@given(st.text(max_size=60))
def test_any_label_arrives_unchanged(value: str) -> None:
    """Whatever an alert's label holds, it arrives as exactly that text, alone and inside another text."""
    lookup = {"labels": {"x": value}}
    assert fill("${{ labels.x }}", lookup) == value
    assert fill("<${{ labels.x }}>", lookup) == f"<{value}>"


@given(st.text(alphabet=st.sampled_from("${}[]. \"'labelsprobx01|"), max_size=40))
def test_any_text_is_filled_or_refused(value: str) -> None:
    """No text brings the reader down: it is filled in or refused in words."""
    try:
        assert isinstance(fill("a" + value, KNOWN), str)
    except PlaceholderError as error:
        assert str(error)
