"""Reports: every way to print what is wrong, for people and for machines."""

from __future__ import annotations

import json

import pytest

from remediator.problem import RENDERERS, Problem, ProblemsError, Severity, nearest, printable


def problem(**changes: object) -> Problem:
    """A problem in a rule file, with ``changes``."""
    values: dict[str, object] = {
        "file": "rules/wallet.yaml",
        "line": 5,
        "column": 9,
        "severity": Severity.ERROR,
        "id": "guard/unknown",
        "message": 'no guard is named "cooldwn"',
        "hint": 'did you mean "cooldown"?',
        "source": "      - cooldwn: 10m",
    }
    return Problem(**(values | changes))  # type: ignore[arg-type]  # the values have the types of the fields


def test_a_report_looks_like_a_compilers() -> None:
    """The report names file, line, column and id, shows the line with a caret, and says what to write instead."""
    assert str(problem()) == (
        'rules/wallet.yaml:5:9: error: no guard is named "cooldwn" [guard/unknown]\n'
        "    5 |       - cooldwn: 10m\n"
        "      |         ^\n"
        '  did you mean "cooldown"?'
    )


def test_a_problem_of_the_whole_file_has_no_line() -> None:
    """A file that does not exist is reported without a line that nobody could look up."""
    report = str(problem(line=0, column=0, source="", hint="", id="file/missing", message="there is no such file"))
    assert report == "rules/wallet.yaml: error: there is no such file [file/missing]"


@pytest.mark.parametrize(
    ("source", "column", "caret"),
    [
        ("\tx: 1", 2, "      | \t^"),
        ("a: 日本 b", 7, "      |         ^"),
        ("e\u0301: x", 4, "      |   ^"),
    ],
)
def test_the_caret_stands_under_its_character(source: str, column: int, caret: str) -> None:
    """Tabs, wide and combining characters do not move the caret away from what is meant."""
    assert str(problem(source=source, column=column, hint="")).splitlines()[-1] == caret


def test_a_long_line_is_cut_around_its_problem() -> None:
    """A line of a million characters gives a report that fits on a screen."""
    lines = str(problem(source="x" * 500 + "HERE" + "y" * 500_000, column=501, hint="")).splitlines()
    assert all(len(line) < 200 for line in lines)
    assert lines[1][lines[2].index("^") :].startswith("HERE")


def test_a_report_cannot_command_a_terminal() -> None:
    """Control characters in a file or a name are shown as escapes, never sent to the terminal."""
    report = str(problem(message="bad \x1b[2J", source="a: \x1b]0;x\x07 b", file="a\nb.yaml"))
    assert "\x1b" not in report
    assert "\\x1b[2J" in report
    assert printable("a\u202eb") == "a\\u202eb"


def test_offers_only_the_nearest_name() -> None:
    """A misspelt name gets one suggestion, and a word that is near to nothing gets none."""
    assert nearest("cooldwn", ["cooldown", "pause"]) == 'did you mean "cooldown"?'
    assert nearest("Pause", ["cooldown", "pause"]) == 'did you mean "pause"?'
    assert nearest("xyzzy", ["cooldown", "pause"]) == ""


def test_json_is_data() -> None:
    """Programs get every field of every problem as JSON."""
    (entry,) = json.loads(RENDERERS["json"]([problem()]))
    assert entry == {
        "file": "rules/wallet.yaml",
        "line": 5,
        "column": 9,
        "severity": "error",
        "id": "guard/unknown",
        "message": 'no guard is named "cooldwn"',
        "hint": 'did you mean "cooldown"?',
    }


def test_github_shows_it_beside_the_line() -> None:
    """The workflow command carries file, line and column, and escapes what would end it early."""
    assert RENDERERS["github"]([problem(message="a%b\nc", severity=Severity.INFO, file="a,b.yaml")]) == (
        '::notice file=a%2Cb.yaml,line=5,col=9,title=guard/unknown::a%25b%0Ac (did you mean "cooldown"?)'
    )


def test_sarif_is_what_code_scanning_reads() -> None:
    """The SARIF log has one result per problem with its rule, level and region, as SARIF 2.1.0 wants them."""
    log = json.loads(RENDERERS["sarif"]([problem(), problem(line=0, id="file/missing", severity=Severity.WARNING)]))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["file/missing", "guard/unknown"]
    first, second = run["results"]
    assert (first["ruleId"], first["level"]) == ("guard/unknown", "error")
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "rules/wallet.yaml"},
        "region": {"startLine": 5, "startColumn": 9},
    }
    assert "region" not in second["locations"][0]["physicalLocation"]


def test_problems_come_from_top_to_bottom_and_once() -> None:
    """An error holds all problems in the order of the file, each of them once."""
    error = ProblemsError([problem(line=9), problem(line=2), problem(line=9)])
    assert [each.line for each in error.problems] == [2, 9]
