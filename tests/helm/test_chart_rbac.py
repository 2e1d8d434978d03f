"""What ``remediator rbac`` prints, handed to the chart: what it grants, to whom, and what it refuses."""

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from click.testing import CliRunner

from remediator.cli import main
from tests.helm.chart import CHART, LEAST, SCALING, notes, one, render

SETTINGS = """
targets:
  prod:
    kind: kubernetes
    in_cluster: true
    permit:
      actions: [kubernetes.rollout_restart, kubernetes.cordon]
      namespaces: [production, staging]
      deployments: [minting-service]
      nodes: [node-*]
"""
RULES = """
rules:
  - name: restart
    when: {alert: Down}
    steps:
      - uses: kubernetes.rollout_restart
        target: prod
        with: {namespace: production, deployment: minting-service}
      - uses: kubernetes.rollout_restart
        target: prod
        with: {namespace: staging, deployment: minting-service}
      - uses: kubernetes.cordon
        target: prod
        with: {node: node-1}
"""
API = {"kubernetesApi": {"cidrs": ["192.0.2.10/32"]}}


@pytest.fixture
def printed(tmp_path: Path) -> str:
    """The real output of ``remediator rbac``, for an account that is not that of the release."""
    (tmp_path / "remediator.yaml").write_text(SETTINGS)
    (tmp_path / "rules.yaml").write_text(RULES)
    arguments = ["rbac", str(tmp_path / "rules.yaml"), "--config.file", str(tmp_path / "remediator.yaml")]
    result = CliRunner().invoke(main, [*arguments, "--service-account", "elsewhere/somebody"])
    assert result.exit_code == 0, result.output
    return result.stdout


def with_roles(text: str) -> dict[str, Any]:
    """Values whose `rbac.roles` is this text."""
    return {**LEAST, "rbac": {"roles": text}, "networkPolicy": API}


def test_what_is_printed_is_granted_and_nothing_else(printed: str) -> None:
    """Each Role arrives with exactly its rules in exactly its namespace, and the one for nodes as a ClusterRole."""

    def granted(documents: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
        kinds = {"Role", "ClusterRole"}
        roles = [each for each in documents if each["kind"] in kinds]
        return [(each["kind"], each["metadata"].get("namespace", ""), each["rules"]) for each in roles]

    told = [document for document in yaml.safe_load_all(printed) if document]
    assert granted(render(with_roles(printed))) == granted(told)
    assert {(kind, place) for kind, place, _ in granted(told)} == {
        ("Role", "production"),
        ("Role", "staging"),
        ("ClusterRole", ""),
    }


def test_the_roles_are_bound_to_the_account_of_the_release(printed: str) -> None:
    """Whatever account the text was printed for: every binding names its own Role and the release's account only."""
    documents = render(with_roles(printed))
    account = one(documents, "ServiceAccount")["metadata"]
    roles = {(each["kind"], each["metadata"]["name"]) for each in documents if each["kind"].endswith("Role")}
    bindings = [each for each in documents if each["kind"].endswith("RoleBinding")]
    assert len(bindings) == 3
    for binding in bindings:
        reference = binding["roleRef"]
        assert (reference["kind"], reference["name"]) in roles
        assert binding["kind"] == reference["kind"] + "Binding"
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]


def test_the_pod_gets_a_token_to_use_the_roles_with(printed: str) -> None:
    """With Roles the pod carries the token of its account, and the notes say what it may do."""
    deployment = one(render(with_roles(printed)), "Deployment")
    assert deployment["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    assert "It has the Roles of rbac.roles." in notes(with_roles(printed))
    assert "It may do nothing in this cluster" in notes(LEAST)


def test_roles_stand_beside_scaling(printed: str) -> None:
    """`scaling` and `rbac.roles` may be used together: no two documents share a name."""
    documents = render({**SCALING, "rbac": {"roles": printed}})
    places = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in documents]
    assert len(set(places)) == len(places)
    report = helm_python.lint(CHART, {**SCALING, "rbac": {"roles": printed}}, strict=True)
    assert report["errors"] == []


def test_releases_in_two_namespaces_do_not_share_a_cluster_role(printed: str) -> None:
    """The name of the ClusterRole holds the namespace of the release."""
    assert one(render(with_roles(printed)), "ClusterRole")["metadata"]["name"] == "ops-remediator-rules"


ROLE = "kind: Role\nmetadata: {namespace: a}\nrules: [{apiGroups: [apps], resources: [deployments], verbs: [get]}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing: [", "rbac.roles: "),
        ("just words", "rbac.roles: "),
        ("# nothing at all\n", "rbac.roles holds no Role"),
        ("kind: Secret\nmetadata: {name: a}\n", 'holds a "Secret"'),
        (f"{ROLE}---\n{ROLE}", "two Roles for namespace a"),
        (ROLE.replace("{namespace: a}", "{name: a}"), 'a Role in namespace ""'),
        (ROLE.replace("Role", "ClusterRole"), 'a ClusterRole in namespace "a"'),
        (ROLE.replace("[get]", '["*"]'), "whose verbs are"),
        (ROLE.replace("[deployments]", '["*"]'), "whose resources are"),
        (ROLE.replace("[apps]", '["*"]'), "whose apiGroups are"),
        (ROLE.replace("apiGroups: [apps], resources: [deployments]", "nonResourceURLs: [/metrics]"), "apiGroups are"),
    ],
)  # fmt: skip
def test_what_rbac_never_prints_is_refused(text: str, message: str) -> None:
    """Other objects, rights to everything and Roles without a place are refused, and it is said what to write."""
    with pytest.raises(helm_python.HelmRenderError) as refusal:
        render(with_roles(text))
    assert message in str(refusal.value)
    assert ";" in str(refusal.value), "the message does not say what to write instead"


def test_without_a_way_to_the_api_the_roles_are_refused(printed: str) -> None:
    """Roles that the network policy makes useless are refused, as scaling is."""
    with pytest.raises(helm_python.HelmRenderError, match=r"networkPolicy\.kubernetesApi\.cidrs"):
        render({**LEAST, "rbac": {"roles": printed}})
