"""Escalation policies: the chains of the five runbooks, and what the settings refuse before people are needed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remediator.catalogue import Catalogue
from remediator.escalation import FIELDS, NONE, Call, known, restored, snapshot
from remediator.placeholder import PlaceholderError
from remediator.rulebook import RulebookError, rulebook_from_texts
from remediator.settings import Settings, SettingsError, load_settings, settings_from_text
from tests.servers import ROOT

CATALOGUE = Catalogue()
EXAMPLE = ROOT / "docs/examples/escalations.yaml"
MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture(scope="module")
def example() -> Settings:
    """The example of the documentation, which holds the five chains."""
    return load_settings(EXAMPLE, CATALOGUE)


def _sees(severity: str, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {name: dict.fromkeys(names, name) for name, names in FIELDS.items()}
    seen = {"labels": {}, "annotations": {}, "service": "", "state": "failed", "reason": "ineffective"}
    return known(severity=severity, **{**seen, **fields, **more})


def _chain(settings: Settings, policy: str, severity: str) -> list[tuple[float, str, str]]:
    """Who is called for ``severity``: after how long, who, and how."""
    found = []
    for call in settings.escalations[policy]:
        condition = call.expression()
        if condition is None or condition.evaluate(_sees(severity)):
            found.append((call.after, call.name, call.uses))
    return found


def test_minting_pages_for_sev1_and_sev2_and_tells_customers(example: Settings) -> None:
    """Runbook 000: page the one on call and tell #incidents at once; customers after five minutes; SEV4 is backlog."""
    for severity in ("SEV1", "SEV2"):
        assert _chain(example, "minting", severity) == [
            (0, "on call", "pagerduty.trigger"),
            (0, "incidents", "slack.post"),
            (5 * MINUTE, "customers", "statuspage.update"),
        ]
    assert _chain(example, "minting", "SEV3") == [(0, "incidents", "slack.post")]
    assert _chain(example, "minting", "SEV4") == [(0, "backlog", "email.send")]


def test_eventchain_climbs_within_its_response_times(example: Settings) -> None:
    """Runbook 001: engineer, lead, manager, CTO; the lead of P0 within 15 min, P1 1 h, P2 4 h."""
    assert [(after, name) for after, name, _ in _chain(example, "eventchain", "P0")] == [
        (0, "on-call engineer"),
        (15 * MINUTE, "team lead"),
        (30 * MINUTE, "engineering manager"),
        (HOUR, "CTO"),
    ]
    assert [(after, name) for after, name, _ in _chain(example, "eventchain", "P1")] == [
        (0, "on-call engineer"),
        (HOUR, "team lead"),
    ]
    assert _chain(example, "eventchain", "P2")[-1] == (4 * HOUR, "team lead", "email.send")
    assert "pagerduty.trigger" not in {uses for _, _, uses in _chain(example, "eventchain", "P3")}


def test_tickets_call_the_manager_for_p1_and_the_vp_after_two_hours(example: Settings) -> None:
    """Runbook 002: primary, secondary, the manager for P1 only, the VP for a P1 that lasts more than two hours."""
    p1 = _chain(example, "tickets", "P1")
    assert [name for _, name, _ in p1] == [
        *("primary", "platform team", "secondary", "engineering manager", "VP Engineering"),
    ]
    assert p1[-1] == (2 * HOUR, "VP Engineering", "pagerduty.trigger")
    for severity in ("P2", "P3", "P4"):
        names = {name for _, name, _ in _chain(example, "tickets", severity)}
        assert not names & {"engineering manager", "VP Engineering"}
    assert "primary" not in {name for _, name, _ in _chain(example, "tickets", "P3")}


def test_erc_8004_reaches_each_level_in_its_time(example: Settings) -> None:
    """Runbook 003: on call < 5 min, lead < 15 min, manager by mail and phone < 30 min, CTO < 1 h; P0 pages at once."""
    p0 = _chain(example, "erc-8004", "P0")
    reached = {name: after for after, name, _ in p0}
    assert reached["on call"] == reached["on-call phone"] == 0
    assert reached["engineering lead"] < 15 * MINUTE
    assert reached["engineering manager, mail"] < 30 * MINUTE
    assert reached["engineering manager, phone"] < 30 * MINUTE
    assert reached["CTO, phone"] < HOUR
    p1 = _chain(example, "erc-8004", "P1")
    assert (15 * MINUTE, "engineering lead", "slack.post") in p1
    assert "CTO, phone" not in {name for _, name, _ in p1}
    assert (HOUR, "engineering lead", "slack.post") in _chain(example, "erc-8004", "P2")
    assert [name for _, name, _ in _chain(example, "erc-8004", "P3")] == ["on call"]


def test_the_card_sandbox_calls_levels_three_and_four(example: Settings) -> None:
    """Runbook 004: its levels 1 and 2 are the rule; people are level 3, and after them level 4."""
    assert [name for _, name, _ in _chain(example, "card-sandbox", "")] == ["level 3, on call", "level 4, team lead"]


def test_a_policy_survives_storage() -> None:
    """What a run keeps is the same policy, word for word, also after the settings were edited."""
    settings = load_settings(EXAMPLE, CATALOGUE)
    for policy in settings.escalations.values():
        assert list(restored(json.loads(json.dumps(snapshot(policy))))) == list(policy)


def test_a_missing_label_never_loses_a_call() -> None:
    """A label that the alert lacks is told as missing; a field that nobody has is a mistake of the policy."""
    call = Call.model_validate(
        {"uses": "slack.post", "target": "t", "with": {"text": "${{ labels.pod }} ${{ severity }}", "x": 1}}
    )
    assert call.parameters(_sees("P0")) == {"text": f"{NONE} P0", "x": 1}
    wrong = Call.model_validate({"uses": "slack.post", "target": "t", "with": {"text": "${{ handover.nothing }}"}})
    with pytest.raises(PlaceholderError):
        wrong.parameters(_sees("P0"))


def test_the_message_that_it_is_over_replaces_what_it_names() -> None:
    """on_resolve stands over with; what it does not name stays."""
    call = Call.model_validate(
        {"uses": "a.b", "target": "t", "with": {"channel": "#x", "text": "bad"}, "on_resolve": {"text": "good"}}
    )
    assert call.parameters(_sees("")) == {"channel": "#x", "text": "bad"}
    assert call.parameters(_sees(""), resolved=True) == {"channel": "#x", "text": "good"}


_TARGETS = """\
targets:
  slack:
    kind: slack
    bearer_token_file: secrets/bot
    permit: {actions: [slack.post], channels: ["#incidents"]}
  api: {kind: http, base_url: "http://127.0.0.1:1"}
"""


def _problem(call: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings_from_text("remediator.yaml", f"{_TARGETS}escalations:\n  oncall:\n    - {call}\n".encode(), CATALOGUE)
    problems = [problem for problem in caught.value.problems if problem.id != "settings/file"]
    assert [problem.line for problem in problems] == [9]
    return f"{problems[0].column}: {problems[0].message} [{problems[0].id}] {problems[0].hint}".strip()


@pytest.mark.parametrize(
    ("call", "report"),
    [
        (
            '{uses: slack.pots, target: slack, with: {channel: "#incidents", text: x}}',
            '14: no action is named "slack.pots" [action/unknown] did you mean "slack.post"?',
        ),
        (
            '{uses: slack.post, target: slak, with: {channel: "#incidents", text: x}}',
            '34: no target is named "slak" [target/unknown] did you mean "slack"?',
        ),
        (
            '{uses: slack.post, target: api, with: {channel: "#incidents", text: x}}',
            '34: target "api" is of another kind; slack.post needs one of kind slack [target/kind]',
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "#other", text: x}}',
            (
                '14: target "slack" does not permit channels "#other" (it lists #incidents) [target/permit] '
                "list it under targets.slack.permit"
            ),
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "incidents", text: x}}',
            '57: "incidents" does not have the form ^(#[\\w-]{1,80}|[CGDUW][A-Z0-9]{2,20})$ [value/invalid]',
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "#incidents", txt: x}}',
            '71: unknown key "txt" [value/unknown-key] did you mean "text"?',
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "#incidents", text: "${{ handover.txt }}"}}',
            '78: nothing is named handover.txt [placeholder/unknown] did you mean "text"?',
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "#incidents", text: "${{ probes.x.y }}"}}',
            (
                '78: nothing is named "probes" here; placeholders look into labels, annotations, severity, service, '
                "state, reason, handover, approval, run [placeholder/invalid]"
            ),
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "#incidents", text: x, mention: ["${{ labels.x }}"]}}',
            (
                "91: mention of slack.post takes no placeholder, so that nothing of an alert gets into it "
                "[placeholder/literal] write it out"
            ),
        ),
        (
            '{if: severety == "P0", uses: slack.post, target: slack, with: {channel: "#incidents", text: x}}',
            '12: nothing is named severety [expression/invalid] did you mean "severity"?',
        ),
        (
            '{if: probes.x.ok, uses: slack.post, target: slack, with: {channel: "#incidents", text: x}}',
            (
                "12: probes is not known at this place [expression/invalid] "
                "here there are annotations, labels, reason, service, severity, state"
            ),
        ),
        (
            '{after: 10, uses: slack.post, target: slack, with: {channel: "#incidents", text: x}}',
            "15: a duration is text with a unit, like 30s, 5m or 1h30m [value/invalid]",
        ),
        (
            '{uses: slack.post, target: slack, with: {channel: "#incidents", text: x}, on_resolve: {text: 5}}',
            '100: expected text, found the number 5 [value/type] quote it: "5"',
        ),
    ],
)
def test_a_wrong_call_is_found_when_it_is_loaded(call: str, report: str) -> None:
    """Not when people are needed: the report points at the very word and says what to write."""
    assert _problem(call) == report


def test_names_of_policies_and_people_are_checked() -> None:
    """approvals.notify names a policy that exists, no policy is empty, and an id in Slack is one person's."""
    text = """\
escalations: {oncall: []}
approvals: {notify: oncal}
users:
  a: {role: approver, token_file: a, slack_id: U0123}
  b: {role: approver, token_file: b, slack_id: U0123}
"""
    with pytest.raises(SettingsError) as caught:
        settings_from_text("remediator.yaml", text.encode(), CATALOGUE)
    said = {problem.id: problem.message for problem in caught.value.problems if problem.id != "settings/file"}
    assert said == {
        "escalation/empty": "this policy calls nobody",
        "escalation/unknown": 'no escalation policy is named "oncal"',
        "user/slack-id": '"a" has this id in Slack already',
    }


def test_a_rule_names_a_policy_that_exists() -> None:
    """A misspelt policy is found when rules are checked with their settings; without them nothing is known."""
    rule = b"""\
rules:
  - name: one
    when: {alert: A}
    escalate: oncal
    steps: [{uses: http.post, target: api, with: {path: /x}}]
"""
    assert len(rulebook_from_texts([("r.yaml", rule)], CATALOGUE)) == 1
    with pytest.raises(RulebookError) as caught:
        rulebook_from_texts([("r.yaml", rule)], CATALOGUE, None, ["oncall"])
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.id) == (4, 15, "escalation/unknown")
    assert problem.hint == 'did you mean "oncall"?'
