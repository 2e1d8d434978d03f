"""Everything that is shipped as rules, alerts and settings, held against each other."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.catalogue import Catalogue
from remediator.checks import CheckContext
from remediator.planning import make_plan
from remediator.problem import Severity
from remediator.rule import Mode, Rule
from remediator.rulebook import load_rulebook
from remediator.settings import load_settings
from tests.rules.site import EXAMPLE, RULES
from tests.servers import ROOT

ALERTS = ROOT / "alertmanager/rules"
FILES = {
    "minting-service": "minting",
    "eventchain": "eventchain",
    "ticket-service": "tickets",
    "erc-8004": "erc-8004",
    "card-generation": "card-sandbox",
}
"""Each runbook's file of rules, and the service of the settings that it is about."""
BOOK = load_rulebook([RULES], Catalogue())
LABELS = {"namespace": "production", "wallet": "minting", "certificate": "www", "trigger_id": "t-1"}
"""Labels that the expressions of the alerts bring, as a production system would fill them."""


def defined(path: Path) -> list[dict[str, Any]]:
    """The alert rules of one file."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALL = {rule["alert"]: rule for path in ALERTS.glob("*.yml") for rule in defined(path)}


def test_the_shipped_rules_and_settings_are_accepted_without_a_word() -> None:
    """What we ship passes our own checks with nothing to say but that the example's files are not on this machine."""
    catalogue = Catalogue()
    settings = load_settings(EXAMPLE, catalogue)
    book = load_rulebook([RULES], catalogue, settings.targets)
    context = CheckContext(services=settings.services, guards=list(settings.guards))

    assert {problem.id for problem in settings.warnings} == {"settings/file"}
    assert [p for p in (*book.warnings, *catalogue.lint(book, context)) if p.severity is not Severity.INFO] == []


def test_every_runbook_has_rules_of_its_own_service() -> None:
    """Five runbooks are five files; each rule is of its runbook's service, has an owner, and links to its section."""
    assert {path.stem for path in RULES.glob("*.yaml")} == FILES.keys()
    for name, service in FILES.items():
        rules = load_rulebook([RULES / f"{name}.yaml"], Catalogue()).rules
        assert len(rules) >= 5
        for rule in rules:
            assert rule.service == service, rule.name
            assert rule.owner and "#" in rule.runbook_url, rule.name


@pytest.mark.parametrize("rule", BOOK.rules, ids=lambda rule: rule.name)
def test_each_rule_is_reached_by_the_alerts_it_names(rule: Rule) -> None:
    """Every alert that a rule names is defined for its service, and with the labels it brings it finds that rule."""
    make_plan(rule, Catalogue())
    for name in rule.when.alert:
        alert = ALL[name]
        assert alert["labels"]["service"] == rule.service
        jobs = ("api-gateway", "event-service")
        found = [
            [one.name for one in BOOK.match({"alertname": name, "job": job, **alert["labels"], **LABELS})]
            for job in jobs
        ]
        assert any(rule.name in names for names in found), name
        assert all(len(names) == 1 for names in found), f"two rules answer {name}: {found}"


def test_no_alert_of_a_runbook_is_left_without_an_answer() -> None:
    """Every alert is answered by a rule, but those that say that a metric is absent: they are for people."""
    answered = {alert for rule in BOOK.rules for alert in rule.when.alert}
    ours = {rule["alert"] for name in FILES for rule in defined(ALERTS / f"{name}.yml")}
    assert {alert for alert in ours - answered if not alert.endswith("Absent")} == set()


@pytest.mark.parametrize("name", FILES)
def test_every_metric_has_a_companion(name: str) -> None:
    """T4: no alert becomes blind in silence; what is absent by its nature is named here."""
    nature = {"erc8004_restart_requested", "kube_job_status_failed"}
    alerts = defined(ALERTS / f"{name}.yml")
    watched = [rule["expr"] for rule in alerts if rule["alert"].endswith("Absent")]
    for rule in alerts:
        text = re.sub(r'"[^"]*"|by \([^)]*\)', '""', rule["expr"])
        used = set(re.findall(r"\b(up|[a-z0-9]+_[a-z0-9_]+)(?=[{\[)]|\s*$)", text, re.MULTILINE))
        for metric in used - nature - {"group_left"}:
            assert any(metric in each and "absent" in each for each in watched), f"{rule['alert']}: {metric}"


def test_people_are_called_by_a_policy_that_exists() -> None:
    """Each rule names the escalation of its service, and each service has a word for every severity it sends."""
    settings = load_settings(EXAMPLE, Catalogue())
    for rule in BOOK.rules:
        assert rule.escalate in settings.escalations, rule.name
        assert rule.escalate == f"{rule.service}-oncall", rule.name
    for service in set(FILES.values()) - {"card-sandbox"}:
        sent = {rule["labels"]["severity"] for rule in ALL.values() if rule["labels"].get("service") == service}
        assert sent <= settings.services[service].severities.keys()


def test_the_example_permits_nothing_that_nobody_needs() -> None:
    """Each action that a target permits is used there by a rule or an escalation, or takes back what one did."""
    settings = yaml.safe_load(EXAMPLE.read_text())
    used = defaultdict(set)
    for rule in BOOK.rules:
        for probe in rule.probes:
            used[probe.target].add(probe.uses)
        for step in rule.script:
            used[step.target].add(step.uses)
    for policy in settings["escalations"].values():
        for call in policy:
            used[call["target"]] |= {call["uses"], call["uses"].replace(".trigger", ".resolve")}
    for name, target in settings["targets"].items():
        assert set(target["permit"]["actions"]) == used[name], name


def test_commands_that_rules_use_are_named_and_take_back_only_what_they_do() -> None:
    """No command stands in the settings that no rule can reach."""
    settings = yaml.safe_load(EXAMPLE.read_text())
    wanted = defaultdict(set)
    for rule in BOOK.rules:
        for step in rule.script:
            if step.uses == "command.run":
                wanted[step.target].add(step.with_["command"])
    for name, target in settings["targets"].items():
        if target["kind"] != "command":
            continue
        for command in [*wanted[name]]:
            known = target["commands"][command]
            wanted[name] |= {known[key] for key in ("undo", "done_if", "precondition") if key in known}
        assert target["commands"].keys() == wanted[name], name


@pytest.mark.parametrize("rule", BOOK.rules, ids=lambda rule: rule.name)
def test_the_traps_of_the_runbooks_are_not_in_the_rules(rule: Rule) -> None:
    """T5 to T17: no absolute scale, no switch without a way back, no list deleted, no whole system without a person."""
    for step in rule.script:
        if step.uses.endswith(".scale"):
            assert "exact" not in step.with_ and "max" in step.with_, step.id
        if step.uses.endswith(".set_env"):
            assert step.lease is not None, step.id
        if step.uses == "kubernetes.rollout_undo" and rule.mode is Mode.AUTO:
            assert any("approval" in guard for guard in rule.guards), step.id
        if step.uses.startswith("kubernetes."):
            assert step.with_["namespace"] == "production", step.id
        assert step.uses not in ("redis.delete_key", "compose.down"), step.id
        if step.uses in ("postgres.terminate_backends", "postgres.update_row", "compose.ordered_shutdown"):
            assert rule.mode is Mode.APPROVE, step.id
        if step.uses == "postgres.terminate_backends":
            assert not fnmatch.fnmatch("pg_dump", step.with_["application"]) and step.with_["max"] <= 5, step.id


def test_two_people_say_yes_to_a_new_key() -> None:
    """S2-4: the shipped rotation asks two people, and is the one that the documentation explains, step by step."""
    rule = next(rule for rule in BOOK.rules if rule.name == "ticket-key-rotation")
    assert {"approval": {"needed": 2, "expires": "4h"}} in rule.guards
    assert [step.id for step in rule.script] == ["write", "accept", "gates", "sign", "signers", "prove", "revoke"]


def test_both_services_of_eventchain_go_back_and_each_is_waited_for() -> None:
    """T11: the runbook looks at one of the two rollouts; here both are steps, and steps verify themselves."""
    rule = next(rule for rule in BOOK.rules if rule.name == "eventchain-error-rate")
    undone = [step.with_["deployment"] for step in rule.tries[0].steps if step.uses == "kubernetes.rollout_undo"]
    assert undone == ["api-gateway", "event-service"]
