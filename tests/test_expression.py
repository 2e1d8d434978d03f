"""Conditions: checked with their types at load, strictly yes or no at run time."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.expression import CONDITION, IF, LEASE, UNTIL, VARIABLES, Expression, ExpressionError

KNOWN: dict[str, Any] = {
    "labels": {"namespace": "production", "severity": "critical"},
    "annotations": {"value": "17"},
    "alerts": [{"status": "firing", "labels": {"pod": "a"}, "annotations": {}, "starts_at": 100.0}],
    "count": 1,
    "severity": "SEV1",
    "probes": {"deps": {"status": 200, "ratio": 0.5, "json": {"open": 0, "tags": ["x"]}}},
    "alert": {"resolved": False, "firing": True, "for_seconds": 42.0},
    "steps": {"scale": {"replicas": 5}},
}


BOMB = "true"
for _name in "abcde":
    BOMB = f"[1,2,3,4,5,6,7,8,9,0].all({_name},{BOMB})"


def ask(source: str, **changes: Any) -> bool:
    """The answer of ``source`` over KNOWN, with ``changes``."""
    expression = Expression.compile(source, VARIABLES, probes=["deps", "other"], steps=["scale"])
    return expression.evaluate(KNOWN | changes)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ('labels.namespace == "production"', True),
        ('labels.?team.orValue("") == ""', True),
        ('"team" in labels', False),
        ("probes.deps.status == 200 && probes.deps.json.open == 0", True),
        ("probes.deps.ratio > 0", True),
        ('probes["deps"].json.tags[0] == "x"', True),
        ("alert.resolved || alert.for_seconds > 40.0", True),
        ("alert.firing && !alert.resolved", True),
        ('alerts.all(a, a.status == "firing") && size(alerts) == count', True),
        ('alerts.exists(a, a.labels.pod == "b")', False),
        ('severity == "SEV1"', True),
        ("int(annotations.value) > 20", False),
        ("steps.scale.replicas >= 5", True),
        ('labels.namespace.matches("prod.*")', True),
        ("true // a remark", True),
        ('labels.namespace == "probes.nope"', False),
    ],
)
def test_answers(source: str, answer: bool) -> None:
    """Conditions over labels, evidence, results and the incident give the answer that they read like."""
    assert ask(source) is answer


@pytest.mark.parametrize(
    ("source", "message", "place"),
    [
        ('lables.namespace == "x"', 'nothing is named lables; did you mean "labels"?', (1, 1)),
        ("probes.depz.status == 200", 'nothing is named probes.depz; did you mean "deps"?', (1, 8)),
        ('true &&\n  probes["depz"].status == 200', 'nothing is named probes.depz; did you mean "deps"?', (2, 11)),
        ("has(steps.scal)", 'nothing is named steps.scal; did you mean "scale"?', (1, 11)),
        ("alert.resolvd", 'nothing is named alert.resolvd; did you mean "resolved"?', (1, 7)),
        ("alert == true", "alert is no value by itself", (1, 1)),
        ("alert.for_seconds > 300", "write a number with a point to compare with a double: 300.0", (1, 19)),
        ("labels.severity > 3", "labels are text", (1, 17)),
        ("count", "the expression gives int, and a condition is true or false", (1, 1)),
        ('labels.a = "b"', "== compares", (1, 10)),
        ('labels.a == "b" and count > 1', "CEL writes && for and", (1, 17)),
        ("(count > 1", "the expression ends too early", (1, 11)),
        ("exec(labels.a)", "nothing is named exec", (1, 1)),
        ("   ", "the expression is empty", (0, 0)),
        ("true && " * 600 + "true", "longer than 4096 characters", (0, 0)),
        ("1" + "+1" * 100 + " > 0", "recursion", (0, 0)),
    ],
)
def test_refuses_at_load_and_points(source: str, message: str, place: tuple[int, int]) -> None:
    """A misspelt name, a wrong type and a syntax error are refused when rules load, with line, column and advice."""
    with pytest.raises(ExpressionError) as caught:
        Expression.compile(source, VARIABLES, probes=["deps"], steps=["scale"])
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == place


def test_names_have_their_places() -> None:
    """Evidence cannot be read before there is any: a condition on alerts knows no probes."""
    with pytest.raises(ExpressionError, match="probes is not known at this place"):
        Expression.compile("probes.deps.status == 200", ["labels"])


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ('labels.team == "core"', {}, 'there is no "team"'),
        ("probes.other.status == 200", {}, 'there is no "other"'),
        ("probes.deps.json", {}, "instead of true or false"),
        ("probes.deps.status", {}, "the expression gave INT instead of true or false"),
        ("!probes.deps.status", {}, "No matching overloads"),
        ("probes.deps.status == 200", {"probes": None}, "probes"),
        ("count > 1", {"count": "many"}, "count"),
        ('labels.a == "x"', {"labels": {"a": "\ud800"}}, ""),
        ("probes.deps.n > 1", {"probes": {"deps": {"n": 2**70}}}, "out of range"),
        ("alerts[3].status == 'x'", {}, "index=3"),
        ('labels.namespace.matches("(")', {}, "invalid regular expression"),
        (BOMB, {}, "budget"),
    ],
)
def test_what_cannot_be_told_is_never_a_yes(source: str, changes: dict[str, Any], message: str) -> None:
    """A missing label, failed evidence, another type or too much work is an error, which callers take for a no."""
    with pytest.raises(ExpressionError) as caught:
        ask(source, **changes)
    assert message in str(caught.value)


def test_a_variable_that_is_not_given_is_an_error() -> None:
    """Asking about something that nobody has looked at yet has no answer."""
    expression = Expression.compile("probes.deps.status == 200", ["probes"], probes=["deps"])
    with pytest.raises(ExpressionError, match="probes is not known yet"):
        expression.evaluate({})


def test_literals_share_the_check_of_types_and_nothing_else() -> None:
    """Rules that differ in a number load fast, and a wrong one among them is still refused."""
    assert ask("count < 5") is True
    assert ask("count < 1") is False
    with pytest.raises(ExpressionError):
        Expression.compile('count < "5"', VARIABLES)
    with pytest.raises(ExpressionError, match="invalid int literal"):
        Expression.compile("count < 99999999999999999999", VARIABLES)
    with pytest.raises(ExpressionError):
        Expression.compile('labels.a == "\\q"', VARIABLES)


@given(st.text(alphabet=st.sampled_from("abl.es()[]{}\"'<>=&|!?:+-*/ 019\\\nprotuncé"), max_size=60))
def test_any_text_is_compiled_or_refused(source: str) -> None:
    """No text brings the service down: it is a condition, or it is refused in words."""
    try:
        expression = Expression.compile(source, VARIABLES, probes=["deps"])
    except ExpressionError as error:
        assert str(error)
        return
    try:
        assert expression.evaluate(KNOWN) in (True, False)
    except ExpressionError as error:
        assert str(error)


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=40), max_size=5))
def test_any_labels_give_an_answer_or_an_error(labels: dict[str, str]) -> None:
    """Whatever an alert carries, a condition over it is true, false or an error, and nothing else happens."""
    try:
        assert ask('labels.a == "x" || labels.size() > 2', labels=labels) in (True, False)
    except ExpressionError:
        assert "a" not in labels


def test_ten_thousand_conditions_compile_fast() -> None:
    """Checking a condition costs less than 0.4 ms, so ten thousand rules stay loadable."""
    start = time.process_time()
    for number in range(500):
        Expression.compile(f'labels.l{number} == "x" && count > {number} && probes.deps.status == 200', VARIABLES,
                           probes=["deps"])  # fmt: skip
    assert (time.process_time() - start) / 500 < 0.0004


def test_the_library_is_loaded_with_the_first_expression() -> None:
    """A service without conditions does not pay for the CEL library."""
    code = (
        "import sys, remediator.rulebook; before = 'cel_expr_python' in sys.modules\n"
        "from remediator.expression import Expression; Expression.compile('true', [])\n"
        "print(before, 'cel_expr_python' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]


def test_each_place_of_a_rule_sees_more_than_the_one_before() -> None:
    """What the alert says comes first, then evidence, then results: no condition can read what comes later."""
    assert CONDITION < IF < UNTIL <= set(VARIABLES)
    assert "probes" not in CONDITION
    assert "steps" not in IF


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("alert.resolved", set()),
        ("probes.a.n == 1 && alert.resolved", {"a"}),
        ('probes["b"].n == 1 || probes.a.up', {"a", "b"}),
        ("'probes.a' == labels.x", set()),
        ("probes[labels.x].n == 1", {"a", "b", "c"}),
        ("has(probes.c)", {"c"}),
    ],
)
def test_it_says_which_probes_it_may_read(source: str, reads: set[str]) -> None:
    """Names that are written out, and all where the name is worked out: never one too few."""
    assert Expression.compile(source, LEASE, probes="abc").reads("abc") == reads
