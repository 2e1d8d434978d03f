"""YAML files: strict, bounded, and every value knows where it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remediator.document import MAX_BYTES, Document, load_document
from remediator.problem import ProblemsError


def load(text: str) -> Any:
    """The data of ``text``."""
    return load_document("f.yaml", text.encode()).data


def refused(text: str | bytes) -> list[tuple[int, int, str]]:
    """Line, column and id of everything that is wrong with ``text``."""
    with pytest.raises(ProblemsError) as caught:
        load_document("f.yaml", text if isinstance(text, bytes) else text.encode())
    return [(p.line, p.column, p.id) for p in caught.value.problems]


def test_reads_plain_values_as_yaml_1_2_does() -> None:
    """Unquoted values are what YAML 1.2 says, and quoted ones are always text."""
    text = (
        "a: 1\nb: -2\nc: 0x1F\nd: +7\ne: 1.5\nf: 1.0e+3\ng: true\n"
        "h: FALSE\ni: null\nj: ~\nk:\nl: text\nm: '1'\nn: \"no\"\n"
    )
    assert load(text) == {
        "a": 1, "b": -2, "c": 31, "d": 7, "e": 1.5, "f": 1000.0, "g": True, "h": False, "i": None, "j": None,
        "k": None, "l": "text", "m": "1", "n": "no",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["y", "nope", "online", "1.2.3", "10m", "1h30m", "a:b", "2d", "-x", "v012", "http://x:80"]
)
def test_leaves_words_alone_that_only_look_odd(text: str) -> None:
    """Durations, versions, addresses and words are text without quotes."""
    assert load(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    "value",
    ["yes", "No", "on", "OFF", "012", "-007", "12:30", "1:2:3", "2026-11-20", "2026-11-20T10:00:00Z", "1_000", "0b11",
     "0o17", "1e3", "1.5E3", ".inf", "-.Inf", ".nan", "9223372036854775808", "1" * 5000, "1.0e+999"],
)  # fmt: skip
def test_refuses_what_yaml_readers_disagree_on(value: str) -> None:
    """A value that some reader takes for something else is refused with the advice to quote it; quoted it is fine."""
    assert refused(f"a: {value}") == [(1, 4, "yaml/ambiguous")]
    assert refused(f"[{value}]") == [(1, 2, "yaml/ambiguous")]
    assert load(f'a: "{value}"') == {"a": value}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", [(3, 1, "yaml/duplicate-key")]),
        ("a: &x 1\nb: *x\n", [(1, 4, "yaml/alias"), (2, 4, "yaml/alias")]),
        ("a: {<<: {b: 1}}\n", [(1, 5, "yaml/alias")]),
        ("a: !!python/object/apply:os.system [x]\n", [(1, 4, "yaml/tag")]),
        ("a: !secret x\n", [(1, 4, "yaml/tag")]),
        ("a: 1\n---\nb: 2\n", [(2, 1, "yaml/documents")]),
        ("on: 1\n", [(1, 1, "yaml/ambiguous")]),
        ("1: a\ntrue: b\n", [(1, 1, "yaml/key"), (2, 1, "yaml/key")]),
        ("? [a]\n: b\n", [(1, 3, "yaml/key")]),
        ("a: {b: 1, b: 2, c: no}\n", [(1, 11, "yaml/duplicate-key"), (1, 20, "yaml/ambiguous")]),
        ("a:\n\tb: 1\n", [(2, 1, "yaml/syntax")]),
        ("a: [1, 2\nb: 3\n", [(2, 2, "yaml/syntax")]),
        ("a: b: c\n", [(1, 5, "yaml/syntax")]),
        ('a: "x\n', [(2, 1, "yaml/syntax")]),
        ("a: @x\n", [(1, 4, "yaml/syntax")]),
        ("a: \x00b\n", [(1, 4, "yaml/character")]),
        ("a: b\x1b[2J\n", [(1, 5, "yaml/character")]),
        ("a: access\u202e level\n", [(1, 10, "yaml/character")]),
        ("[" * 33 + "]" * 33, [(1, 33, "yaml/depth")]),
        ("- " * 40 + "x", [(1, 65, "yaml/depth")]),
        (b"a: \xff\n", [(0, 0, "yaml/encoding")]),
        ("a: 1\n".encode("utf-16"), [(0, 0, "yaml/encoding")]),
        (b"#" * (MAX_BYTES + 1), [(0, 0, "yaml/size")]),
    ],
)
def test_refuses_what_hides_meaning(text: str | bytes, found: list[tuple[int, int, str]]) -> None:
    """Duplicates, aliases, tags, second documents, odd keys, hidden characters and excess are refused in place."""
    assert refused(text) == found


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 200_000, "{a: " * 200_000, "? " * 200_000, "&a [" * 100_000])
def test_depth_cannot_break_the_process(text: str) -> None:
    """A file of a hundred thousand open brackets is refused, and neither memory nor the stack gives way."""
    assert refused(text)


def test_says_that_a_tab_may_not_indent() -> None:
    """The most common mistake of all gets its own sentence instead of the parser's."""
    with pytest.raises(ProblemsError, match="a tab may not indent a line"):
        load("a:\n\tb: 1\n")


@pytest.mark.parametrize(
    "text", ["", "# only a remark\n", "---\n", "\ufeffa: 1\n", "a: 1\r\nb: 2\r\n", "%YAML 1.2\n---\na: 1\n"]
)
def test_takes_what_editors_leave_behind(text: str) -> None:
    """Empty files, byte order marks, Windows line ends and a YAML directive are no problem."""
    assert load(text) in (None, {"a": 1}, {"a": 1, "b": 2})


def test_every_value_knows_its_place() -> None:
    """Keys and values are found again by path; a missing one is reported where it should have stood."""
    document = load_document("f.yaml", b"a:\n  - b: 1\n    c: {d: 'x y'}\n  - [5, 6]\n")
    assert document.place(("a",), key=True) == (1, 1)
    assert document.place(("a", 0, "b"), key=True) == (2, 5)
    assert document.place(("a", 0, "b")) == (2, 8)
    assert document.place(("a", 0, "c", "d")) == (3, 12)
    assert document.place(("a", 1, 1)) == (4, 9)
    assert document.place(("a", 0, "missing")) == (2, 5)
    assert document.place(("a", 7)) == (2, 3)


def test_points_into_a_value() -> None:
    """An offset inside a value is a column of the file, where the value stands in it as it is."""
    document = load_document("f.yaml", b"a: labels.x == 3\nb: 'labels.x == 3'\nc: |\n  labels.x == 3\n")
    where = {"needle": "labels.x == 3", "offset": 9}
    assert document.place(("a",), **where) == (1, 13)  # type: ignore[arg-type]  # the two keywords, shared
    assert document.place(("b",), **where) == (2, 14)  # type: ignore[arg-type]  # the two keywords, shared
    assert document.place(("c",), **where) == (3, 4)  # type: ignore[arg-type]  # the two keywords, shared


def test_a_password_in_an_address_is_not_repeated() -> None:
    """A report that quotes a line with an address hides the password in it."""
    document = load_document("f.yaml", b"url: postgresql://user:hunter2@db/x\n")
    assert "hunter2" not in str(document.problem(("url",), "value/invalid", "no"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(alphabet="abcdef-_ .", min_size=1, max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_reads_what_yaml_writes(value: Any) -> None:
    """Whatever another program writes as YAML or as JSON is read with the same values and types, or refused."""
    for text in (json.dumps(value, ensure_ascii=False), yaml.safe_dump(value, allow_unicode=True)):
        try:
            read = load(text)
        except ProblemsError as error:
            # PyYAML writes some texts plain that readers of YAML 1.1 and 1.2 take differently: those are refused.
            assert {p.id for p in error.problems} == {"yaml/ambiguous"}
            continue
        assert read == value


@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@`?, \n\t0no.~"), max_size=60))
def test_any_text_is_read_or_refused_at_a_place(text: str) -> None:
    """No text brings the reader down, and every place it names can be found in the text."""
    try:
        document = load_document("f.yaml", text.encode())
    except ProblemsError as error:
        for problem in error.problems:
            assert 1 <= problem.line <= text.count("\n") + 2
        return
    assert isinstance(document, Document)
    for path in _paths(document.data):
        line, column = document.place(path)
        assert 1 <= line <= text.count("\n") + 2
        assert 1 <= column <= len(text) + 1


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    out = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            out += _paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            out += _paths(item, (*path, index))
    return out
