"""Matchers: read and matched as Alertmanager does it, which its own tool confirms."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.matcher import OPERATORS, Matcher, MatcherError, parse_matchers

GOOD = {
    'severity="critical"': ['severity="critical"'],
    "severity=critical": ['severity="critical"'],
    ' severity = "critical" ': ['severity="critical"'],
    'severity=~"warning|critical"': ['severity=~"warning|critical"'],
    'severity!="info", team=core': ['severity!="info"', 'team="core"'],
    '{severity="critical",}': ['severity="critical"'],
    "{}": [],
    'a!~"x.*"': ['a!~"x.*"'],
    'a=""': ['a=""'],
    'a="b\\"c\\\\d\\ne"': ['a="b\\"c\\\\d\\ne"'],
    'a=~"web\\\\.example\\\\.com"': ['a=~"web\\\\.example\\\\.com"'],
    "a=b-c.d/e:f": ['a="b-c.d/e:f"'],
    '"härte grad"="ü"': ['"härte grad"="ü"'],
    "a=~x.*y+": ['a=~"x.*y+"'],
}

BAD = {
    "": ("there is no matcher here", 0),
    "alertname": ("expected one of =, !=, =~, !~ after alertname", 9),
    "a=": ("expected a value", 2),
    '="x"': ("expected the name of a label", 0),
    '""="x"': ("the name of a label is empty", 0),
    'a="x': ("the closing double quote is missing", 2),
    "a='x'": ("a value may not begin with '", 2),
    "a=b c=d": ('unexpected "c" after a matcher', 4),
    "{a=b": ('the closing "}" is missing', 4),
    "a=b}": ('unexpected "}"', 3),
    "{a=b},{c=d}": ('unexpected ","', 5),
    "a==b": ("expected a value", 2),
    'a=~"("': ("not a regular expression of RE2: missing ): (", 3),
    'a=~"(?=x)"': ("not a regular expression of RE2: invalid perl operator: (?=", 3),
    'a="\\d"': ("unknown escape \\d", 3),
    ",a=b": ("expected the name of a label", 0),
}


@pytest.mark.parametrize("text", GOOD)
def test_reads_what_alertmanager_reads(text: str) -> None:
    """Each form that an SRE knows from Alertmanager is read, and printed in its normal form."""
    assert [str(matcher) for matcher in parse_matchers(text)] == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_points_at_what_is_wrong(text: str) -> None:
    """A text that is no matcher is refused with the place of the first mistake, counted in characters."""
    with pytest.raises(MatcherError) as caught:
        parse_matchers(text)
    assert (caught.value.message, caught.value.offset) == BAD[text]


def test_says_what_to_write_instead() -> None:
    """Where the two parsers of Alertmanager differ, the refusal gives the text that both read alike."""
    with pytest.raises(MatcherError, match=r"write \\\\d for a backslash"):
        parse_matchers('a=~"\\d+"')
    with pytest.raises(MatcherError, match='the empty value is =""'):
        parse_matchers("a=")
    with pytest.raises(MatcherError, match="longer than 4096"):
        parse_matchers("a=" + "b" * 5000)


def test_one_matcher_is_one() -> None:
    """``Matcher.parse`` takes exactly one matcher, and an operator that exists."""
    assert Matcher.parse("a=b") == Matcher("a", "=", "b")
    with pytest.raises(MatcherError, match="expected one matcher, found 2"):
        Matcher.parse("a=b,c=d")
    with pytest.raises(MatcherError, match="is no operator"):
        Matcher("a", "==", "b")


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ('a="b"', {"a": "b"}, True),
        ('a="b"', {"a": "bb"}, False),
        ('a=""', {}, True),
        ('a!=""', {}, False),
        ('a!="b"', {}, True),
        ('a=~"b|c"', {"a": "c"}, True),
        ('a=~"b|c"', {"a": "bc"}, False),
        ('a!~"b|c"', {"a": "d"}, True),
        ('a=~"b.*"', {"a": "abc"}, False),
        ('a=~"b.*"', {"a": "bcd"}, True),
        ('a=~"b?"', {}, True),
        ('a!~".+"', {}, True),
        ('a=~"b|"', {}, True),
        ('a=~"b."', {"a": "b\n"}, False),
        ('a=~"ä.c"', {"a": "äöc"}, True),
    ],
)
def test_matches_whole_values_and_missing_labels_are_empty(text: str, labels: dict[str, str], matches: bool) -> None:
    """Regular expressions cover the whole value, and a label that is missing counts as empty."""
    assert Matcher.parse(text).matches(labels) is matches


def test_hostile_expressions_take_linear_time() -> None:
    """An expression that hangs backtracking engines is answered at once, whatever the label holds."""
    assert not Matcher.parse('a=~"(a+)+$"').matches({"a": "a" * 100_000 + "!"})


@pytest.mark.parametrize(("text", "everything"), [('a=~".*"', True), ('a=~".+"', False), ('a!~".*"', False)])
def test_knows_a_matcher_that_says_nothing(text: str, everything: bool) -> None:
    """A matcher that no alert can fail is recognised, so that the lint can tell."""
    assert Matcher.parse(text).matches_everything is everything


NAMES = st.text(min_size=1, max_size=20)


@given(NAMES, st.sampled_from(["=", "!="]), st.text(max_size=40))
def test_whatever_is_printed_is_read_back(name: str, operator: str, value: str) -> None:
    """Printing and reading are inverse for every name and value that JSON can carry."""
    matcher = Matcher(name, operator, value)
    assert Matcher.parse(str(matcher)) == matcher


@given(st.text(alphabet=st.sampled_from("ab\"{}=~!,\\ \n'é"), max_size=30))
def test_any_text_is_read_or_refused_at_a_place(text: str) -> None:
    """No text brings the parser down: it is read, or refused with an offset inside it."""
    try:
        parse_matchers(text)
    except MatcherError as error:
        assert 0 <= error.offset <= len(text)


LABELS: list[dict[str, str]] = [
    {},
    {"severity": "critical", "team": "core", "a": "b"},
    {"severity": "warning", "a": 'b"c\\d'},
    {"severity": "info", "a": "xy"},
    {"a": "b-c.d/e:f"},
    {"a": "web.example.com"},
    {"a": "web-example-com"},
    {"a": "xaay", "team": "other"},
]


def test_amtool_agrees(tmp_path: Path) -> None:
    """Alertmanager's own tool routes every set of labels exactly as our matchers decide."""
    texts = [text for text in GOOD if "ä" not in text and text != "{}"] + ['a=~"b?"', 'a!~".+"', 'a=~"x|y.*"', "a!=b"]
    routes = [{"receiver": f"r{i}", "matchers": [text], "continue": True} for i, text in enumerate(texts)]
    receivers = [{"name": name} for name in ("none", *(f"r{i}" for i in range(len(texts))))]
    config = tmp_path / "alertmanager.json"
    config.write_text(json.dumps({"route": {"receiver": "none", "routes": routes}, "receivers": receivers}))
    for labels in LABELS:
        pairs = [f"{name}={json.dumps(value)}" for name, value in labels.items()]
        command = ["amtool", "config", "routes", "test", f"--config.file={config}", *pairs]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        ours = [f"r{i}" for i, text in enumerate(texts) if all(m.matches(labels) for m in parse_matchers(text))]
        assert done.stdout.strip() == ",".join(ours or ["none"]), labels


@pytest.mark.parametrize("text", ["alertname", 'a="x', 'a=~"("', ",a=b", "{a=b},{c=d}"])
def test_amtool_refuses_it_too(text: str, tmp_path: Path) -> None:
    """What is no matcher to us is none to Alertmanager either (we refuse some more that it reads in two ways)."""
    config = tmp_path / "alertmanager.json"
    route = {"receiver": "r", "routes": [{"receiver": "r", "matchers": [text]}]}
    config.write_text(json.dumps({"route": route, "receivers": [{"name": "r"}]}))
    done = subprocess.run(["amtool", "check-config", str(config)], capture_output=True, check=False, timeout=30)
    assert done.returncode != 0


def test_operators_are_alertmanagers() -> None:
    """There are the four operators of Alertmanager and no others."""
    assert sorted(OPERATORS) == ["!=", "!~", "=", "=~"]
