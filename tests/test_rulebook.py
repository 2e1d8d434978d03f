"""Rules: loaded as a whole or refused as a whole, every problem at its place, and matched by alert."""

from __future__ import annotations

import io
import os
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.catalogue import Catalogue
from remediator.integrations.command.target import CommandTarget
from remediator.integrations.http.target import HttpTarget
from remediator.matcher import parse_matchers
from remediator.problem import Severity
from remediator.rule import Mode, Rule
from remediator.rulebook import Rulebook, RulebookError, load_rulebook, rulebook_from_texts
from remediator.target import Target

CATALOGUE = Catalogue()

TARGETS: dict[str, Target] = {
    "minting-api": HttpTarget(
        name="minting-api",
        base_url="https://minting-api.example.com",
        permit={"actions": ["http.get", "http.post"], "paths": ["/admin/workers", "/health*"]},
    ),
    "tools": CommandTarget.model_validate(
        {
            "name": "tools",
            "directory": "/",
            "commands": {"sync": {"argv": ["/bin/true"], "description": "Nothing."}},
            "permit": {"actions": ["command.run"], "commands": ["sync"]},
        }
    ),
}

RULE = """\
rules:
  - name: backlog
    mode: auto
    when:
      alert: HighQueueDepth
      matchers: ['severity=~"warning|critical"']
      condition: labels.namespace == "production"
    guards:
      - cooldown: 10m
      - rate_limit: {runs: 3, per: 1h}
    probes:
      - {id: deps, uses: http.get, target: minting-api, with: {path: /health/detailed}}
    if: probes.deps.status == 200
    steps:
      - id: workers
        uses: http.post
        target: minting-api
        with: {path: /admin/workers, json: {count: 5, shard: "${{ labels.shard }}"}}
    verify: {until: alert.resolved, within: 10m}
"""


def load(text: str, targets: Mapping[str, Target] | None = TARGETS, file: str = "rules/a.yaml") -> Rulebook:
    """The rules in ``text``."""
    return rulebook_from_texts([(file, text.encode())], CATALOGUE, targets)


def report(text: str, targets: Mapping[str, Target] | None = TARGETS) -> str:
    """The whole report on ``text``."""
    with pytest.raises(RulebookError) as caught:
        load(text, targets)
    return str(caught.value)


def minimal(name: str, alert: str = "A", matchers: str = "[]") -> str:
    """The shortest rule there is, as an item of the list."""
    return (
        f"  - {{name: {name}, when: {{alert: {alert}, matchers: {matchers}}}, "
        f"steps: [{{uses: command.run, target: tools, with: {{command: sync}}}}]}}\n"
    )


def test_loads_a_rule_as_it_was_written() -> None:
    """A complete rule is loaded with its defaults, and knows the file it came from."""
    book = load(RULE)
    (rule,) = book.rules
    assert (rule.name, rule.mode, rule.when.alert, rule.max_age) == ("backlog", Mode.AUTO, ["HighQueueDepth"], 900.0)
    assert rule.steps[0].timeout == 120.0
    assert (book.get("backlog"), book.get("other"), len(book)) == (rule, None, 1)
    assert (book.file_of("backlog"), book.file_of("other")) == ("rules/a.yaml", "")
    assert book.warnings == ()


def test_a_loaded_rule_survives_as_data() -> None:
    """The body that runs are bound to is read back as the same rule with the same digest."""
    (rule,) = load(RULE).rules
    assert Rule.from_body(rule.body) == rule
    assert Rule.from_body(rule.body).digest == rule.digest


REPORTS = {
    "an unknown guard": (
        RULE.replace("- cooldown: 10m", "- cooldwn: 10m"),
        """\
        rules/a.yaml:9:9: error: no guard is named "cooldwn" [guard/unknown]
            9 |       - cooldwn: 10m
              |         ^
          did you mean "cooldown"?""",
    ),
    "a guard that guards nothing": (
        RULE.replace("runs: 3", "runs: 0"),
        """\
        rules/a.yaml:10:28: error: a limit of no runs stops the rule for ever; write mode: observe if that is meant [value/invalid]
           10 |       - rate_limit: {runs: 0, per: 1h}
              |                            ^""",  # noqa: E501  # the report to the letter
    ),
    "a misspelt key": (
        RULE.replace("    verify:", "    verfy:"),
        """\
        rules/a.yaml:19:5: error: unknown key "verfy" [value/unknown-key]
           19 |     verfy: {until: alert.resolved, within: 10m}
              |     ^
          did you mean "verify"?""",
    ),
    "a mode that is none": (
        RULE.replace("mode: auto", "mode: automatic"),
        """\
        rules/a.yaml:3:11: error: "automatic" is not one of observe, approve, auto [value/choice]
            3 |     mode: automatic
              |           ^
          did you mean "auto"?""",
    ),
    "a matcher with a broken expression": (
        RULE.replace("warning|critical", "warning|(critical"),
        """\
        rules/a.yaml:6:29: error: not a regular expression of RE2: missing ): warning|(critical [matcher/invalid]
            6 |       matchers: ['severity=~"warning|(critical"']
              |                             ^""",
    ),
    "a condition on a probe that is not there": (
        RULE.replace("if: probes.deps", "if: probes.depz"),
        """\
        rules/a.yaml:13:16: error: nothing is named probes.depz [expression/invalid]
           13 |     if: probes.depz.status == 200
              |                ^
          did you mean "deps"?""",
    ),
    "a condition with wrong types": (
        RULE.replace('labels.namespace == "production"', "labels.namespace == 3"),
        """\
        rules/a.yaml:7:35: error: == does not work on (string, int) [expression/invalid]
            7 |       condition: labels.namespace == 3
              |                                   ^
          labels are text: write "3", or int(labels.x)""",
    ),
    "an action that does not exist": (
        RULE.replace("uses: http.post", "uses: http.pots"),
        """\
        rules/a.yaml:16:15: error: no action is named "http.pots" [action/unknown]
           16 |         uses: http.pots
              |               ^
          did you mean "http.post"?""",
    ),
    "a probe as a step": (
        RULE.replace("uses: http.post", "uses: http.get"),
        """\
        rules/a.yaml:16:15: error: no action is named "http.get" [action/unknown]
           16 |         uses: http.get
              |               ^
          "http.get" is a probe; write it under probes:""",
    ),
    "a target that does not exist": (
        RULE.replace("        target: minting-api", "        target: minting-ap"),
        """\
        rules/a.yaml:17:17: error: no target is named "minting-ap" [target/unknown]
           17 |         target: minting-ap
              |                 ^
          did you mean "minting-api"?""",
    ),
    "a target of the wrong kind": (
        RULE.replace("        target: minting-api", "        target: tools"),
        """\
        rules/a.yaml:17:17: error: target "tools" is of kind command; http.post needs one of kind http [target/kind]
           17 |         target: tools
              |                 ^""",
    ),
    "something that the target does not permit": (
        RULE.replace('/admin/workers, json: {count: 5, shard: "${{ labels.shard }}"}', "/admin/drop"),
        """\
        rules/a.yaml:16:15: error: target "minting-api" does not permit paths "/admin/drop" (it lists /admin/workers, /health*) [target/permit]
           16 |         uses: http.post
              |               ^
          list it under targets.minting-api.permit in the settings""",  # noqa: E501  # the report to the letter
    ),
    "a parameter that does not exist": (
        RULE.replace("json: {count", "jsn: {count"),
        """\
        rules/a.yaml:18:38: error: unknown key "jsn" [value/unknown-key]
           18 |         with: {path: /admin/workers, jsn: {count: 5, shard: "${{ labels.shard }}"}}
              |                                      ^
          did you mean "json"?""",
    ),
    "a placeholder that is code": (
        RULE.replace("labels.shard }}", "labels.shard | lower }}"),
        """\
        rules/a.yaml:18:63: error: "| lower" is no part of a path; a placeholder is a lookup like ${{ labels.namespace }} or ${{ probes.deps.items[0]["a-b"] }}, not code [placeholder/invalid]
           18 |         with: {path: /admin/workers, json: {count: 5, shard: "${{ labels.shard | lower }}"}}
              |                                                               ^""",  # noqa: E501  # the report to the letter
    ),
    "a placeholder into a later step": (
        RULE.replace("labels.shard }}", "steps.workers.x }}"),
        """\
        rules/a.yaml:18:63: error: no earlier step has the id "workers" [placeholder/unknown]
           18 |         with: {path: /admin/workers, json: {count: 5, shard: "${{ steps.workers.x }}"}}
              |                                                               ^""",
    ),
    "a target made of a label": (
        RULE.replace("        target: minting-api", '        target: "${{ labels.target }}"'),
        """\
        rules/a.yaml:17:17: error: a placeholder cannot stand in target [placeholder/place]
           17 |         target: "${{ labels.target }}"
              |                 ^
          placeholders fill parameters, inside with:""",
    ),
    "a duration without a unit": (
        RULE.replace("within: 10m", "within: 10"),
        """\
        rules/a.yaml:19:45: error: a duration is text with a unit, like 30s, 5m or 1h30m [value/invalid]
           19 |     verify: {until: alert.resolved, within: 10}
              |                                             ^""",
    ),
    "a look that never happens": (
        RULE.replace("within: 10m", "within: 10s, every: 15s"),
        """\
        rules/a.yaml:19:57: error: looking again every 15s never happens within 10s [verify/every]
           19 |     verify: {until: alert.resolved, within: 10s, every: 15s}
              |                                                         ^
          make every shorter than within""",
    ),
    "a YAML 1.1 surprise": (
        RULE.replace("count: 5", "count: 12:30"),
        """\
        rules/a.yaml:18:52: error: 12:30 is a number in base 60 to some YAML readers [yaml/ambiguous]
           18 |         with: {path: /admin/workers, json: {count: 12:30, shard: "${{ labels.shard }}"}}
              |                                                    ^
          quote it: "12:30\"""",
    ),
    "a duplicate key": (
        RULE.replace("    mode: auto\n", "    mode: auto\n    mode: observe\n"),
        """\
        rules/a.yaml:4:5: error: the key "mode" stands twice in this map [yaml/duplicate-key]
            4 |     mode: observe
              |     ^
          keep one of the two""",
    ),
    "a rule without steps": (
        "rules:\n  - name: a\n    when: {alert: A}\n",
        """\
        rules/a.yaml:2:5: error: write steps, or remedies with steps of their own [value/invalid]
            2 |   - name: a
              |     ^""",
    ),
    "a key of a coming version": (
        RULE.replace("id: workers", "id: workers\n        if: severity == 'warning'"),
        """\
        rules/a.yaml:16:9: error: "if" comes in a later version [rule/later]
           16 |         if: severity == 'warning'
              |         ^
          write the condition as if: on the remedy""",
    ),
    "no rules at all": (
        "rulez: []\n",
        """\
        rules/a.yaml:1:1: error: "rules" is missing [value/missing]
            1 | rulez: []
              | ^
          the list of rules of this file
        rules/a.yaml:1:1: error: unknown key "rulez" [value/unknown-key]
            1 | rulez: []
              | ^
          did you mean "rules"?""",
    ),
}


@pytest.mark.parametrize("what", REPORTS)
def test_reports_point_and_say_what_to_write(what: str) -> None:
    """Each kind of broken rule gets a report with place, line, caret and advice, to the letter."""
    text, expected = REPORTS[what]
    assert report(text) == textwrap.dedent(expected)


def test_reports_everything_at_once() -> None:
    """One run of the check shows every problem of every file, so that nobody repairs them one by one."""
    broken = (
        RULE.replace("cooldown", "cooldwn").replace("mode: auto", "mode: atuo").replace("within: 10m", "within: 0s")
    )
    with pytest.raises(RulebookError) as caught:
        rulebook_from_texts([("b.yaml", broken.encode()), ("a.yaml", b"a: &x 1\n")], CATALOGUE, TARGETS)
    assert [(p.file, p.id) for p in caught.value.problems] == [
        ("a.yaml", "yaml/alias"),
        ("b.yaml", "value/choice"),
        ("b.yaml", "guard/unknown"),
        ("b.yaml", "value/invalid"),
    ]


@pytest.mark.parametrize("lease", ["{at_most: 1h}", "{until: alert.firing && probes.deps.status == 200, at_most: 1h}"])
def test_a_temporary_change_is_right_where_it_has_a_way_back(lease: str) -> None:
    """The same request may be temporary once it says what undoes it; a condition reads probes and the alert."""
    text = RULE.replace("id: workers", f"id: workers\n        lease: {lease}")
    with pytest.raises(RulebookError, match="lease/irreversible"):
        load(text)
    load(text.replace("{path: /admin/workers,", "{undo: {method: delete, path: /admin/workers}, path: /admin/workers,"))


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        (("id: deps, uses", "id: de-ps, uses"), {"value/invalid", "expression/invalid"}),
        (("path: /health/detailed", "path: health"), {"value/invalid"}),
        (("{path: /health/detailed}", "{path: '/health/${{ labels.x }}'}"), set()),
        (("{path: /health/detailed}", "{path: '/health/${{ probes.deps.x }}'}"), {"placeholder/unknown"}),
        (("{path: /health/detailed}", "{path: /secret}"), {"target/permit"}),
        (("timeout: 1m", "timeout: 0s"), {"value/invalid"}),
        (("id: workers", "id: workers\n        lease: {settle: 1m}"), {"value/missing", "lease/irreversible"}),
        (
            ("id: workers", "id: workers\n        lease: {until: probes.deps.status == 200, at_most: 1h}"),
            {"lease/irreversible"},
        ),
        (
            ("id: workers", "id: workers\n        lease: {until: probes.dps.status == 200, every: 0s, at_most: 1h}"),
            {"expression/invalid", "value/invalid", "lease/irreversible"},
        ),
        (
            ("id: workers", "id: workers\n        lease: {until: steps.workers.status == 1, at_most: 1h}"),
            {"expression/invalid", "lease/irreversible"},
        ),
        (
            ("id: workers", "id: workers\n        lease: {every: 1m, at_most: 1h}"),
            {"value/invalid", "lease/irreversible"},
        ),
        (("id: workers", "id: workers\n        if: 'true'"), {"rule/later"}),
        (("id: workers", "id: workers\n        with_: {}"), {"value/unknown-key"}),
        (("    when:", "    if_: x\n    when:"), {"value/unknown-key"}),
        (("- cooldown: 10m", "- pause"), {"value/type"}),
        (("- cooldown: 10m", "- {cooldown: 10m, pause: {}}"), {"guard/form"}),
        (("- cooldown: 10m", "- cooldown: {for: 10m, scop: rule}"), {"value/unknown-key"}),
        (("name: backlog", "name: Back_Log"), {"value/invalid"}),
        (("name: backlog", "name: 5"), {"value/type"}),
        (("alert: HighQueueDepth", "alert: []"), {"value/invalid"}),
        (("until: alert.resolved", "until: alert.resolvd"), {"expression/invalid"}),
        (("until: alert.resolved", "until: steps.workers.status == 200"), set()),
        (("condition: labels", "condition: probes"), {"expression/invalid"}),
        (("target: minting-api\n", "target: minting-api\n        token: abc\n"), {"settings/secret"}),
    ],
)
def test_knows_the_other_mistakes_too(change: tuple[str, str], ids: set[str]) -> None:
    """Every further kind of mistake has its own stable id, and what is right passes."""
    text = RULE.replace("        uses: http.post", "        timeout: 1m\n        uses: http.post").replace(*change)
    try:
        load(text)
        found = set()
    except RulebookError as error:
        found = {problem.id for problem in error.problems}
    assert found == ids


def test_parameters_that_are_code_take_no_placeholder() -> None:
    """A label never becomes part of a query, however the rule is written."""
    text = "rules:\n" + minimal("a").replace(
        "steps:",
        "probes: [{id: q, uses: prometheus.query, target: p, with: {query: 'up{a=\"${{ labels.a }}\"}'}}], steps:",
    )
    assert "[placeholder/literal]" in report(text, None)


def test_without_settings_everything_else_is_checked() -> None:
    """Rules can be checked where the settings are not: targets are then taken as given, the rest is not."""
    text = RULE.replace("minting-api", "unheard-of")
    assert len(load(text, None)) == 1
    assert "[guard/unknown]" in report(text.replace("cooldown", "cooldwn"), None)


def test_names_are_unique_over_all_files() -> None:
    """A second rule of a name is refused, and the report says where the first one is."""
    files = [("a.yaml", f"rules:\n{minimal('x')}".encode()), ("b.yaml", f"\nrules:\n{minimal('x')}".encode())]
    with pytest.raises(RulebookError) as caught:
        rulebook_from_texts(files, CATALOGUE, TARGETS)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.id) == ("b.yaml", 3, "rule/duplicate")
    assert "a.yaml:2:12" in problem.hint


def test_a_file_without_rules_is_a_warning() -> None:
    """An empty file does not stop the others, and is not passed over in silence either."""
    book = rulebook_from_texts([("a.yaml", b"# later\n"), ("b.yaml", b"rules: []\n")], CATALOGUE, None)
    assert [(p.file, p.id, p.severity) for p in book.warnings] == [
        ("a.yaml", "file/empty", Severity.WARNING),
        ("b.yaml", "file/empty", Severity.WARNING),
    ]


def test_the_digest_tells_any_change() -> None:
    """A changed character gives another digest, another order of the files does not."""
    one, two = ("a.yaml", f"rules:\n{minimal('x')}".encode()), ("b.yaml", f"rules:\n{minimal('y')}".encode())
    book = rulebook_from_texts([one, two], CATALOGUE, None)
    assert book.digest == rulebook_from_texts([two, one], CATALOGUE, None).digest
    assert book.digest != rulebook_from_texts([one, (two[0], two[1] + b"#")], CATALOGUE, None).digest


# --- Which files ------------------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> None:
    """Rule files in ``folder``, each with one rule of the given name; ``__`` stands for the dot."""
    for name, rule in files.items():
        (folder / name.replace("__", ".")).write_text(f"rules:\n{minimal(rule)}")


def test_reads_files_folders_and_globs(tmp_path: Path) -> None:
    """A folder gives its rule files, not hidden ones, other files or folders below; a glob reaches further."""
    write(tmp_path, a__yaml="a", b__yml="b", c__txt="c", __hidden__yaml="h")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", d__yaml="d")
    names = [rule.name for rule in load_rulebook([tmp_path], CATALOGUE).rules]
    assert names == ["a", "b"]
    both = load_rulebook([tmp_path, tmp_path / "a.yaml", f"{tmp_path}/**/*.yaml"], CATALOGUE)
    assert [rule.name for rule in both.rules] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("path", "id"),
    [("nope", "file/missing"), ("nope.yaml", "file/missing"), ("*.yaml", "file/missing"), ("x.txt", "file/name")],
)
def test_a_path_that_leads_nowhere_is_an_error(path: str, id: str, tmp_path: Path) -> None:
    """A misspelt path is refused: no rules because of a typing mistake is not the same as no rules."""
    (tmp_path / "x.txt").write_text("rules: []")
    with pytest.raises(RulebookError) as caught:
        load_rulebook([tmp_path / path], CATALOGUE)
    assert [(p.id, p.file) for p in caught.value.problems] == [(id, str(tmp_path / path))]


def _config_map(folder: Path, version: str) -> None:
    """Replaces the files of a mounted ConfigMap as a kubelet does: a new folder, then one link is turned."""
    fresh = folder / f"..{version}"
    fresh.mkdir()
    write(fresh, a__yaml=f"a-{version}", b__yaml=f"b-{version}")
    (folder / "..tmp").symlink_to(fresh.name)
    os.replace(folder / "..tmp", folder / "..data")
    for name in ("a.yaml", "b.yaml"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def test_reads_a_config_map_as_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a ConfigMap is replaced between two files, all are read again: never half of each version."""
    _config_map(tmp_path, "v1")
    assert {rule.name for rule in load_rulebook([tmp_path], CATALOGUE).rules} == {"a-v1", "b-v1"}
    opened: list[str] = []

    def swap_after_the_first(path: str, mode: str) -> io.BufferedReader:
        opened.append(path)
        if len(opened) == 2:
            _config_map(tmp_path, "v2")
        return open(path, "rb")

    monkeypatch.setattr("remediator.document.open", swap_after_the_first, raising=False)
    assert {rule.name for rule in load_rulebook([tmp_path], CATALOGUE).rules} == {"a-v2", "b-v2"}
    assert len(opened) == 4


# --- Matching ---------------------------------------------------------------------------------------------


def test_finds_the_rules_of_an_alert() -> None:
    """An alert is answered by the rules of its name whose matchers all hold, in the order of the files."""
    book = load(
        "rules:\n"
        + minimal("any")
        + minimal("two", "[A, B]", "['x=\"1\"']")
        + minimal("none", "A", "['x=\"2\"']")
        + minimal("re", "A", '[\'x=~"1|3", y!="z"\']')
        + minimal("gone", "A", "['x=\"\"']")
        + minimal("other", "C")
    )
    names = {
        tuple(labels.items()): [rule.name for rule in book.match(labels)]
        for labels in (
            {"alertname": "A", "x": "1"},
            {"alertname": "A", "x": "1", "y": "z"},
            {"alertname": "B", "x": "1"},
            {"alertname": "A"},
            {"alertname": "D"},
            {"x": "1"},
        )
    }
    assert list(names.values()) == [["any", "two", "re"], ["any", "two"], ["two"], ["any", "gone"], [], []]


def test_explains_matcher_by_matcher() -> None:
    """For every rule it can be told whether the name fits and which matcher holds."""
    book = load("rules:\n" + minimal("a", "A", "['x=\"1\"', 'y=~\"2.*\"']") + minimal("b", "B"))
    first, second = book.explain({"alertname": "A", "x": "1"})
    assert (first.alert, [ok for _, ok in first.matchers], first.matched) == (True, [True, False], False)
    assert (second.alert, second.matched) == (False, False)


ALERTS = st.sampled_from(["A", "B", "C"])
MATCHERS = st.sampled_from(['x="1"', 'x="2"', 'y="1"', 'x!="1"', 'x=~"1|2"', 'y!~"1"', 'z=""', 'z!=""', 'x=~".+"'])


@given(
    st.lists(st.tuples(st.lists(ALERTS, min_size=1, max_size=2), st.lists(MATCHERS, max_size=3)), max_size=6),
    st.dictionaries(st.sampled_from(["x", "y", "z"]), st.sampled_from(["1", "2", ""]), max_size=3),
    ALERTS,
)
def test_the_index_answers_like_asking_every_rule(
    rules: list[tuple[list[str], list[str]]], labels: dict[str, str], alert: str
) -> None:
    """For any rules and any alert the fast answer equals the one of trying each rule."""
    text = "rules:\n" + "".join(
        minimal(f"r{number}", str(alerts), str(matchers)) for number, (alerts, matchers) in enumerate(rules)
    )
    book = load(text if rules else "rules: []", None)
    asked = labels | {"alertname": alert}
    expected = [
        f"r{number}"
        for number, (alerts, matchers) in enumerate(rules)
        if alert in alerts and all(m.matches(asked) for entry in matchers for m in parse_matchers(entry))
    ]
    assert [rule.name for rule in book.match(asked)] == expected
    assert [found.rule.name for found in book.explain(asked) if found.matched] == expected


def many(count: int, per_file: int = 500) -> list[tuple[str, bytes]]:
    """``count`` realistic rules in files of ``per_file``, each with a name, an alert and a condition of its own."""
    body = RULE.removeprefix("rules:\n")
    texts = [
        body.replace("name: backlog", f"name: backlog-{n}")
        .replace("alert: HighQueueDepth", f"alert: HighQueueDepth{n % (count // 2)}")
        .replace("']", f"', 'shard=\"{n}\"']")
        .replace('"production"', f'"production-{n}"')
        for n in range(count)
    ]
    return [
        (f"rules/{start}.yaml", ("rules:\n" + "".join(texts[start : start + per_file])).encode())
        for start in range(0, count, per_file)
    ]


def test_thousands_of_rules_load_and_match_fast() -> None:
    """2,000 rules load in under 1.2 s of processor time, and an alert finds its rule among them in under 50 µs."""
    files = many(2000)
    start = time.process_time()
    book = rulebook_from_texts(files, CATALOGUE, TARGETS)
    assert time.process_time() - start < 1.2
    assert len(book) == 2000
    labels = {"alertname": "HighQueueDepth77", "severity": "warning", "shard": "1077", "namespace": "x"}
    assert [rule.name for rule in book.match(labels)] == ["backlog-1077"]
    start = time.process_time()
    for _ in range(2000):
        book.match(labels)
    assert (time.process_time() - start) / 2000 < 50e-6


def test_a_guard_reads_only_probes_that_the_rule_has() -> None:
    """A path into evidence that nobody takes is found when rules load; with the probe all is well."""
    text = """
rules:
  - name: a
    when: {alert: A}
    guards: [{blast_radius: {fleet: probes.worker.desired, max_count: 1}}, {breaker: {close_if: probes.up.ok == true}}]
    probes: [{id: workers, uses: http.get, target: api, with: {path: /x}}]
    steps: [{uses: http.post, target: api, with: {path: /x}}]
"""
    said = report(text, None)
    assert said.count("[guard/probe]") == 2
    assert 'did you mean "workers"?' in said
    good = text.replace("probes.worker.", "probes.workers.").replace("probes.up.ok", "probes.workers.ok")
    assert len(rulebook_from_texts([("rules.yaml", good.encode())], CATALOGUE)) == 1
