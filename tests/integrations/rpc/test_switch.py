"""rpc.switch is written out as a probe and an ordinary step; what is wrong is told where the person wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from remediator.catalogue import Catalogue
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.integrations.rpc.switch import Switch
from remediator.integrations.rpc.target import RpcTarget
from remediator.rule import Rule
from remediator.rulebook import RulebookError, rulebook_from_texts
from remediator.target import Target

POOL = RpcTarget.model_validate(
    {
        "name": "pool",
        "genesis": "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
        "endpoints": [{"name": "one", "url": "https://one"}, {"name": "two", "url": "https://two"}],
        "permit": {"actions": ["rpc.healthiest"], "endpoints": ["*"]},
    }
)
PROD = KubernetesTarget.model_validate(
    {"name": "prod", "permit": {"actions": ["kubernetes.*"], "namespaces": ["*"], "deployments": ["app"]}}
)
TARGETS: Mapping[str, Target] = {"pool": POOL, "prod": PROD}
RULE = """\
rules:
  - name: failover
    when: {alert: RpcFailing}
    probes:
      - {id: app, uses: kubernetes.deployment, target: prod, with: {namespace: a, name: app, env: [RPC]}}
    if: probes.endpoint.switch
    steps:
      - id: endpoint
        uses: rpc.switch
        target: pool
        with:
          current: ${{ probes.app.env.RPC }}
          samples: 5
          set:
            uses: kubernetes.set_env
            target: prod
            with: {namespace: a, deployment: app, env: {RPC: "${{ probes.endpoint.value }}"}}
        lease: {settle: 15m, at_most: 12h}
        timeout: 6m
        retry: {attempts: 2}
    verify: {until: alert.resolved, within: 20m}
"""
BY_HAND = """\
rules:
  - name: failover
    when: {alert: RpcFailing}
    probes:
      - {id: app, uses: kubernetes.deployment, target: prod, with: {namespace: a, name: app, env: [RPC]}}
      - id: endpoint
        uses: rpc.healthiest
        target: pool
        with: {current: "${{ probes.app.env.RPC }}", samples: 5}
        timeout: 1m
    if: probes.endpoint.switch
    steps:
      - id: endpoint
        uses: kubernetes.set_env
        target: prod
        with: {namespace: a, deployment: app, env: {RPC: "${{ probes.endpoint.value }}"}}
        lease: {until: alert.resolved && probes.endpoint.preferred.well, settle: 15m, at_most: 12h}
        timeout: 6m
        retry: {attempts: 2}
    verify: {until: alert.resolved, within: 20m}
"""


def read(text: str, targets: Mapping[str, Target] | None = TARGETS) -> Rule:
    """The one rule in ``text``."""
    (rule,) = rulebook_from_texts([("rules.yaml", text.encode())], Catalogue(), targets).rules
    return rule


def test_it_is_the_rule_that_one_would_write_by_hand() -> None:
    """Digest for digest: what is stored, approved and carried out has no trace of a composite."""
    assert read(RULE).digest == read(BY_HAND).digest
    assert Rule.from_body(read(RULE).body).digest == read(BY_HAND).digest


def test_a_condition_of_its_own_is_kept() -> None:
    """Who writes until decides when it goes back."""
    text = RULE.replace("lease: {settle", "lease: {until: alert.resolved, settle")
    lease = read(text).script[0].lease
    assert lease is not None and lease.until == "alert.resolved"


def test_in_a_remedy_too() -> None:
    """Several remedies may each switch; each look is a probe of its own."""
    document: Any = yaml.safe_load(RULE)
    rule = document["rules"][0]
    step, verify = rule.pop("steps")[0], rule.pop("verify")
    del rule["if"]
    other = yaml.safe_load(yaml.safe_dump(step).replace("endpoint", "second"))
    rule["remedies"] = [{"steps": [step], "verify": verify}, {"if": "probes.second.switch", "steps": [other]}]
    made = read(yaml.safe_dump(document))
    assert [probe.id for probe in made.probes] == ["app", "endpoint", "second"]
    assert [made.script[0].uses, made.script[1].id] == ["kubernetes.set_env", "second"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("      - id: endpoint\n        uses", "      - uses", [("composite/invalid", 8), ("expression/invalid", 6)]),
        ("        lease: {settle: 15m, at_most: 12h}\n", "", [("composite/invalid", 8)]),
        ("samples: 5", "samples: 500", [("value/invalid", 13)]),
        ("samples: 5", "sample: 5", [("value/unknown-key", 13)]),
        ("            target: prod\n", "", [("value/missing", 15)]),
        ("uses: kubernetes.set_env", "uses: kubernetes.set_en", [("action/unknown", 15)]),
        ("deployment: app", "deploymnt: app", [("value/unknown-key", 17)]),
        ("            target: prod", "            target: pool", [("target/kind", 16)]),
        ("        target: pool", "        target: prod", [("target/kind", 10)]),
        ("        target: pool", "        target: nowhere", [("target/unknown", 10)]),
        ("probes.app.env.RPC }}", "probes.ap.env.RPC }}", [("placeholder/unknown", 12)]),
        ("probes.endpoint.value", "probes.endpoit.value", [("placeholder/unknown", 17)]),
        ("samples: 5", "samples: ${{ labels.n }}", [("value/type", 13)]),
        ("settle: 15m", "settle: 15m, every: 0s", [("value/invalid", 18)]),
        ("id: app,", "id: endpoint,", [("placeholder/unknown", 12), ("probe/duplicate", 8)]),
        ("uses: kubernetes.deployment", "uses: rpc.switch", [("probe/unknown", 5)]),
        ("target: prod, with: {namespace: a, name: app", "target: prod, with: {namespace: a, nam: app", None),
    ],
)
def test_what_is_wrong_is_told_where_it_was_written(old: str, new: str, says: list[tuple[str, int]] | None) -> None:
    """Line by line in the text of the person, never in what was made of it."""
    assert old in RULE
    with pytest.raises(RulebookError) as caught:
        read(RULE.replace(old, new, 1))
    found = sorted((problem.id, problem.line) for problem in caught.value.problems)
    if says is not None:
        assert found == sorted(says), [str(problem) for problem in caught.value.problems]
    assert all(0 < problem.line <= 22 and problem.column > 0 for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("with", None), ("with", []), ("with", "text"), ("with", {}), ("with", {"set": None}), ("with", {"set": []}),
        ("with", {"set": {"uses": 1, "target": 2, "with": 3}}), ("with", ...), ("id", 5), ("id", None), ("id", ...),
        ("lease", "6h"), ("lease", []), ("target", None), ("target", ...), ("uses", "rpc.target"), ("timeout", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("probes", [..., None, "text", [], {}, [None], [{"id": "endpoint"}]])
def test_whatever_stands_there_is_refused_and_never_a_crash(key: str, value: Any, probes: Any) -> None:
    """Missing, empty and ill-typed parts of the step, beside missing, empty and ill-typed probes: told with a place."""
    document: Any = yaml.safe_load(RULE)
    rule = document["rules"][0]
    for holder, name, new in ((rule["steps"][0], key, value), (rule, "probes", probes)):
        holder[name] = new
        if new is ...:
            del holder[name]
    with pytest.raises(RulebookError) as caught:
        read(yaml.safe_dump(document))
    assert all(problem.line > 0 for problem in caught.value.problems)


def test_without_settings_it_can_be_checked_too() -> None:
    """Targets are unknown then, and everything else is looked at."""
    assert read(RULE, None).name == "failover"


def test_it_is_no_action_and_no_probe() -> None:
    """The catalogue knows it as what it is, so that nothing could license or permit it by its own name."""
    catalogue = Catalogue()
    assert catalogue.composite("rpc.switch") is Switch
    assert catalogue.action("rpc.switch") is None and catalogue.probe("rpc.switch") is None
    assert "rpc.switch" in catalogue.names("composites")
    (told,) = catalogue.describe("composites")
    assert (told["name"], told["effect"], told["integration"]) == ("rpc.switch", "composite", "rpc")
