"""``remediator rbac``: the least Roles, tried against an API server that enforces them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from remediator.cli import main
from tests.integrations.kubernetes.apiserver import ApiServer, Grant, api_server

RULES = """\
rules:
  - name: backlog
    owner: team-minting
    mode: auto
    when: {alert: A}
    probes:
      - {id: worker, uses: kubernetes.deployment, target: prod, with: {namespace: production, name: minting-worker}}
    steps:
      - uses: kubernetes.scale
        target: prod
        with: {namespace: production, deployment: minting-worker, at_least: 5, max: 10}
      - uses: kubernetes.rollout_undo
        target: prod
        with: {namespace: production, deployment: minting-service}
    verify: {until: alert.resolved, within: 10m}
"""
PERMIT: dict[str, list[str]] = {
    "actions": ["kubernetes.*"],
    "namespaces": ["production"],
    "deployments": ["minting-*"],
    "pods": ["minting-*"],
    "nodes": ["worker-1", "worker-2"],
}


def run(folder: Path, *arguments: str, rules: str = RULES, **target: Any) -> Result:
    """The command, with ``rules`` and settings of one target in ``folder``."""
    (folder / "rules.yaml").write_text(rules)
    settings = {"targets": {"prod": {"kind": "kubernetes", "permit": PERMIT, **target}}}
    (folder / "remediator.yaml").write_text(yaml.safe_dump(settings))
    return CliRunner().invoke(
        main, ["rbac", str(folder / "rules.yaml"), "--config.file", str(folder / "remediator.yaml"), *arguments]
    )


def _documents(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.output
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def test_the_least_role(tmp_path: Path) -> None:
    """Every right once, by name where RBAC can name, the scale subresource for scaling, and a binding."""
    role, binding = _documents(run(tmp_path, "--service-account", "tools/healer"))
    assert role == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "remediator-rules", "namespace": "production"},
        "rules": [
            {
                "apiGroups": ["apps"],
                "resources": ["deployments"],
                "resourceNames": ["minting-service"],
                "verbs": ["get", "patch"],
            },
            {
                "apiGroups": ["apps"],
                "resources": ["deployments"],
                "resourceNames": ["minting-worker"],
                "verbs": ["get"],
            },
            {
                "apiGroups": ["apps"],
                "resources": ["deployments/scale"],
                "resourceNames": ["minting-worker"],
                "verbs": ["get", "patch"],
            },
            {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list"]},
            {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        ],
    }
    assert binding["kind"] == "RoleBinding"
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "remediator-rules"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "namespace": "tools", "name": "healer"}]


def _step(uses: str, with_: str) -> str:
    start = RULES.index("    steps:")
    step = f"    steps: [{{uses: {uses}, target: prod, with: {with_}}}]\n"
    return f"{RULES[:start]}{step}    verify: {{until: alert.resolved, within: 10m}}\n"


def test_what_a_label_decides(tmp_path: Path) -> None:
    """A name from a label becomes the names that the target permits, or all where those have wildcards; nodes are in no
    namespace and get a ClusterRole."""
    pod = _step("kubernetes.delete_pod", "{namespace: production, pod: '${{ labels.pod }}'}")
    role, _ = _documents(run(tmp_path, rules=pod))
    assert {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]} in role["rules"]
    node = _step("kubernetes.cordon", "{node: '${{ labels.node }}'}")
    cluster, binding, *_ = _documents(run(tmp_path, rules=node))
    assert (cluster["kind"], binding["kind"]) == ("ClusterRole", "ClusterRoleBinding")
    names = ["worker-1", "worker-2"]
    assert {"apiGroups": [""], "resources": ["nodes"], "resourceNames": names, "verbs": ["get", "patch"]} in cluster[
        "rules"
    ]


def test_a_namespace_must_be_known(tmp_path: Path) -> None:
    """A namespace from a label is one Role for each that the target permits; with a wildcard nobody can say which."""
    rule = _step("kubernetes.rollout_restart", "{namespace: '${{ labels.namespace }}', deployment: minting-worker}")
    some = run(tmp_path, rules=rule, permit={**PERMIT, "namespaces": ["a", "production"]})
    namespaces = [document["metadata"]["namespace"] for document in _documents(some) if document["kind"] == "Role"]
    assert namespaces == ["a", "production"]
    wild = run(tmp_path, rules=rule, permit={**PERMIT, "namespaces": ["prod*"]})
    assert wild.exit_code == 1
    assert "write the namespaces of the permit list out" in wild.output


def test_wrong_usage_is_said(tmp_path: Path) -> None:
    """A service account without its namespace, a target that is none, and broken rules have their own answers."""
    assert run(tmp_path, "--service-account", "healer").exit_code == 2
    missing = run(tmp_path, "--target", "staging")
    assert (missing.exit_code, "kind kubernetes named staging" in missing.output) == (1, True)
    assert run(tmp_path, rules=RULES.replace("kubernetes.scale", "kubernetes.scael")).exit_code == 1


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """An API server that runs beside the command, which has an event loop of its own."""
    started, ended = threading.Event(), threading.Event()
    found: list[ApiServer] = []

    async def serve() -> None:
        async with api_server() as it:
            found.append(it)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield found[0]
    ended.set()
    thread.join(10)


def test_an_identity_with_exactly_enough(tmp_path: Path, api: ApiServer) -> None:
    """With the printed Role the review finds nothing missing and nothing too much, and exits 0."""
    api.use_roles(run(tmp_path).stdout)
    done = run(tmp_path, "--verify", kubeconfig=api.kubeconfig(tmp_path))
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "prod: the identity may do exactly what the rules need\n"
    assert api.writes() == []


def test_what_is_missing_is_named(tmp_path: Path, api: ApiServer) -> None:
    """Each right that lacks is one line in the words of RBAC, and the exit status is 1."""
    text = run(tmp_path).stdout.replace("- deployments/scale\n", "- deployments/status\n", 1)
    api.use_roles(text)
    done = run(tmp_path, "--verify", kubeconfig=api.kubeconfig(tmp_path))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert 'prod: missing: patch deployments.apps/scale "minting-worker" in namespace production' in lines
    assert 'prod: too much: patch deployments.apps/status "minting-worker" in namespace production' in lines


def test_what_is_too_much_is_named(tmp_path: Path, api: ApiServer) -> None:
    """More names, more verbs, other resources and wildcards are each too much; what everybody may do is not."""
    api.use_roles(run(tmp_path).stdout)
    assert api.grants is not None
    api.grants += [
        Grant(frozenset({"get"}), frozenset({"secrets"}), groups=frozenset({""}), namespace="production"),
        Grant(
            frozenset({"patch"}), frozenset({"deployments"}), frozenset({"other"}), frozenset({"apps"}), "production"
        ),
        Grant(frozenset({"*"}), frozenset({"*"})),
    ]
    done = run(tmp_path, "--verify", kubeconfig=api.kubeconfig(tmp_path))
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "prod: too much: * *.* in namespace production",
        "prod: too much: get secrets in namespace production",
        'prod: too much: patch deployments.apps "other" in namespace production',
    ]


def test_an_api_server_that_cannot_be_asked(tmp_path: Path, api: ApiServer) -> None:
    """Without credentials that are accepted there is an error and no verdict."""
    kubeconfig = api.kubeconfig(tmp_path)
    done = run(tmp_path, "--verify", kubeconfig=kubeconfig, context="stranger")
    assert done.exit_code == 1
    assert "credentials are not accepted" in done.output
