"""The chart, linted and rendered by Helm's own code: what it grants, what it refuses, how it is locked."""

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from remediator.catalogue import Catalogue
from remediator.cli.serve import serve
from remediator.log import FORMATS, LEVELS
from remediator.rule import Mode
from remediator.settings import load_settings
from tests.helm.chart import CHART, FULL, LEAST, SCALING, notes, one, render


def volume(*modes: str) -> dict[str, Any]:
    """Values for a volume with these access modes."""
    return {**LEAST, "storage": {"volume": {"accessModes": list(modes)}}}


@pytest.mark.parametrize("values", [LEAST, SCALING, FULL], ids=["least", "scaling", "full"])
def test_lint_finds_nothing(values: dict[str, Any]) -> None:
    """Helm's linter, with warnings counted as errors, has nothing to say against the chart."""
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= 2] == []


@pytest.mark.parametrize("values", [LEAST, SCALING, FULL], ids=["least", "scaling", "full"])
def test_every_document_is_an_object_with_a_name_and_labels(values: dict[str, Any]) -> None:
    """Every rendered document parses and says what it is, and no two have the same kind, place and name."""
    documents = render(values)
    seen = set()
    for document in documents:
        metadata = document["metadata"]
        assert document["apiVersion"]
        assert metadata["labels"]["app.kubernetes.io/name"] == "remediator"
        seen.add((document["kind"], metadata["namespace"], metadata["name"]))
    assert len(seen) == len(documents)


def grants(values: dict[str, Any]) -> set[tuple[str, ...]]:
    """Everything the rendered roles allow: kind, namespace, group, resource, name, verb."""
    return {
        (role["kind"], role["metadata"]["namespace"], group, resource, name, verb)
        for role in render(values)
        if role["kind"] in {"Role", "ClusterRole"}
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ["*"])
        for verb in rule["verbs"]
    }


def test_the_verbs_are_exactly_the_table() -> None:
    """The chart grants reading and scaling of named Deployments, sight of autoscalers, and nothing else."""
    verbs = {"deployments": ["get"], "deployments/scale": ["get", "patch"]}
    listed = {"production": ["minting-worker", "minting-service"], "staging": ["minting-worker"]}
    table: set[tuple[str, ...]] = {
        ("Role", namespace, "apps", resource, name, verb)
        for namespace, names in listed.items()
        for name in names
        for resource in verbs
        for verb in verbs[resource]
    }
    assert grants({**FULL, "checkAutoscalers": False}) == table
    sight = {("Role", place, "autoscaling", "horizontalpodautoscalers", "*", "list") for place in listed}
    assert grants(FULL) == table | sight


def test_each_grant_is_bound_to_our_account_only() -> None:
    """Every binding is local to its namespace and names the one ServiceAccount of the release."""
    documents = render(FULL)
    account = one(documents, "ServiceAccount")
    bindings = [d for d in documents if d["kind"] == "RoleBinding"]
    assert {b["metadata"]["namespace"] for b in bindings} == {"production", "staging"}
    for binding in bindings:
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "ops"}
        ]
    assert not [d for d in documents if d["kind"].startswith("Cluster")]


def test_nothing_is_granted_until_it_is_listed() -> None:
    """Without `scaling` there is no Role, and the pod does not even carry a token."""
    documents = render(LEAST)
    assert not [d for d in documents if d["kind"] in {"Role", "RoleBinding"}]
    assert one(documents, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert one(render(SCALING), "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_the_pod_meets_the_restricted_standard() -> None:
    """The pod runs as 65532 without root, privileges, capabilities or a writable root file system."""
    pod = one(render(FULL), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] | {"fsGroupChangePolicy": None} == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": None,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/var/lib/remediator", "/tmp"}


def test_the_pod_is_started_probed_and_drained_as_the_server_expects() -> None:
    """The flags, the probe paths and the grace of a drain are those of the server."""
    deployment = one(render(LEAST), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["args"] == [
        "serve",
        "--config.file=/etc/remediator/remediator.yaml",
        "--rules.path=/etc/remediator/rules",
        "--storage.url=sqlite:////var/lib/remediator/remediator.db",
        "--web.listen-address=0.0.0.0:9095",
        "--mode.max=approve",
        "--log.level=info",
        "--log.format=json",
    ]
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
    assert pod["terminationGracePeriodSeconds"] == 60
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] < 60


def test_every_flag_is_one_of_the_server() -> None:
    """The pod starts `remediator serve` with flags that it knows, and with values that it accepts."""
    [container] = one(render(FULL), "Deployment")["spec"]["template"]["spec"]["containers"]
    command, *flags = container["args"]
    assert command == "serve"
    parsed = serve.make_context("serve", list(flags))
    assert parsed.params["storage_url"] == "sqlite:////var/lib/remediator/remediator.db"
    assert parsed.params["mode_max"] == "approve"


def test_every_mount_has_its_volume_and_every_volume_its_mount() -> None:
    """No volume is missing or left over, in any of the shapes the chart can take."""
    for values in (LEAST, FULL, {**LEAST, "settingsSecret": "all-settings"}):
        pod = one(render(values), "Deployment")["spec"]["template"]["spec"]
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_the_selectors_meet() -> None:
    """Service, network policy and monitor select the pods of this release, which carry those labels."""
    documents = render(FULL, name="blue")
    labels = one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        one(documents, "Deployment")["spec"]["selector"]["matchLabels"],
        one(documents, "Service")["spec"]["selector"],
        one(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()
    monitor = one(documents, "ServiceMonitor")
    service = one(documents, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert service["metadata"]["name"] == "blue-remediator"


def test_rules_and_settings_arrive_as_files() -> None:
    """Rule text is carried over unchanged, and the settings gain the path of the mounted token file."""
    text = "rules:\n  - name: a\n    description: 'says ${{ labels.x }} and {{ not.helm }}'\n"
    documents = render({**FULL, "rules": {"a.yaml": text, "b.yaml": "rules: []\n"}})
    assert one(documents, "ConfigMap", "-rules")["data"] == {"a.yaml": text, "b.yaml": "rules: []\n"}
    settings = yaml.safe_load(one(documents, "ConfigMap", "-settings")["data"]["remediator.yaml"])
    assert settings == {
        "targets": {"prod": {"kind": "kubernetes"}},
        "intake": {"tokens_file": "/etc/remediator/secrets/intake/tokens"},
        "storage": {"url": "sqlite:////var/lib/remediator/remediator.db"},
    }


def test_the_settings_are_settings_of_the_server(tmp_path: Path) -> None:
    """The server accepts the rendered remediator.yaml, and with its token file may listen for other machines."""
    target = {"kind": "kubernetes", "in_cluster": True, "permit": {"namespaces": ["production"]}}
    slack = {"kind": "slack", "bearer_token_file": "/etc/remediator/secrets/slack/token", "permit": {
        "actions": ["slack.post"], "channels": ["#incidents"]}}  # fmt: skip
    call = {"uses": "slack.post", "target": "slack", "with": {"channel": "#incidents", "title": "${{ run.id }}"}}
    written = {"targets": {"prod": target, "slack": slack}, "escalations": {"oncall": [call]},
               "services": {"minting": {"disruption_budget": 1}}, "guards": [{"storm": {}}]}  # fmt: skip
    documents = render({**FULL, "settings": written})
    file = tmp_path / "remediator.yaml"
    file.write_text(one(documents, "ConfigMap", "-settings")["data"]["remediator.yaml"])
    settings = load_settings(file, Catalogue(), {"web.listen_address": "0.0.0.0:9095"})
    assert settings.targets.keys() == {"prod", "slack"}
    assert settings.escalations.keys() == {"oncall"}
    assert settings.intake.tokens_file == "/etc/remediator/secrets/intake/tokens"


def test_settings_can_stay_in_a_secret() -> None:
    """With settingsSecret no ConfigMap of settings is written, and the Secret is mounted in its place."""
    documents = render({**LEAST, "settingsSecret": "all-settings"})
    assert [d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"] == ["remediator-rules"]
    volumes = one(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "settings", "secret": {"secretName": "all-settings"}} in volumes


def test_a_changed_rule_replaces_the_pod() -> None:
    """What runs is what was released: other rules mean another pod template, equal rules the same one."""

    def template(rule: str) -> Any:
        return one(render({**LEAST, "rules": {"a.yaml": rule}}), "Deployment")["spec"]["template"]

    assert template("rules: []\n") == template("rules: []\n")
    assert template("rules: []\n") != template("rules: [] # changed\n")


def test_the_network_is_closed_but_for_the_listed_peers() -> None:
    """Both directions are denied; only listed namespaces connect, only DNS and the API are reached."""
    policy = one(render(SCALING), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [ingress] = policy["ingress"]
    assert ingress["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert ingress["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    dns, api = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert api["to"] == [{"ipBlock": {"cidr": "192.0.2.10/32"}}]
    assert len(one(render(LEAST), "NetworkPolicy")["spec"]["egress"]) == 1


def test_an_empty_list_of_peers_is_nobody() -> None:
    """Empty lists close the door; a rule with an empty `from` would open it to everyone."""
    values = {**LEAST, "networkPolicy": {"alertmanagerNamespaces": [], "prometheusNamespaces": []}}
    assert one(render(values), "NetworkPolicy")["spec"]["ingress"] == []


def test_the_claim_outlives_the_release() -> None:
    """Uninstalling the chart keeps the volume, because the audit log is on it."""
    claim = one(render(LEAST), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    values = {**LEAST, "storage": {"volume": {"existingClaim": "mine"}}}
    assert not [d for d in render(values) if d["kind"] == "PersistentVolumeClaim"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**LEAST, "replicas": 2}, "replicas: 2 cannot share one SQLite database"),
        (volume("ReadWriteMany"), "whose locks SQLite cannot trust"),
        (volume("ReadWriteOnce", "ReadWriteMany"), "ReadWriteMany means"),
        ({}, "intake.tokensSecret.name is empty"),
        ({**LEAST, "settings": {"a": 1}, "settingsSecret": "s"}, "only one can be remediator.yaml"),
        ({**SCALING, "networkPolicy": {"kubernetesApi": {"cidrs": []}}}, "networkPolicy.kubernetesApi.cidrs"),
        ({**SCALING, "scaling": SCALING["scaling"] * 2}, "namespace production is listed twice"),
        ({**LEAST, "storage": {"passwordSecret": {"name": "s"}}}, "are for PostgreSQL"),
        ({**LEAST, "storage": {"migrateJob": {"enabled": True}}}, "are for PostgreSQL"),
        ({**LEAST, "audit": {"checkpoint": {"emptyDir": True}}}, "for a shorter time than it is kept beside"),
        ({**LEAST, "settings": {"storage": {"url": "sqlite:x.db"}}}, "settings.storage.url is written by the chart"),
        ({**LEAST, "settings": {"intake": {"tokens_file": "x"}}}, "settings.intake.tokens_file is written"),
        ({**LEAST, "terminationGracePeriodSeconds": 59}, "write 60 or more"),
        ({**LEAST, "settings": {"worker": {"grace": "soon"}}}, "settings.worker.grace: soon is not a duration"),
    ],
    ids=[
        "replicas", "rwx", "rwx-too", "no-token", "two-settings", "no-api", "namespace-twice", "password", "job",
        "empty-dir", "storage-url", "tokens-file", "period", "grace",
    ],
)  # fmt: skip
def test_the_chart_refuses(values: dict[str, Any], message: str) -> None:
    """What would lose data, or never become ready, is refused at render time with a way out."""
    with pytest.raises(helm_python.HelmRenderError) as refusal:
        render(values)
    assert message in str(refusal.value)
    assert ";" in str(refusal.value), "the message does not say what to write instead"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"replicaCount": 2}, "replicaCount"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": "two"}, "replicas"),
        ({"maxMode": "yolo"}, "maxMode"),
        ({"image": {"repository": ""}}, "repository"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"storage": {"url": "sqlite:///relative.db"}}, "url"),
        ({"storage": {"url": "sqlite:////tmp/lost-on-restart.db"}}, "url"),
        ({"storage": {"url": "mysql://db.example.com/remediator"}}, "url"),
        ({"storage": {"url": "postgresql://db.example.com"}}, "url"),
        ({"storage": {"url": "postgresql://db.example.com/$(HOSTNAME)"}}, "url"),
        ({"storage": {"schema": "Drop Table"}}, "schema"),
        ({"storage": {"migrateJob": {"grantTo": "a; b"}}}, "grantTo"),
        ({"redis": {"url": "unix:///run/redis.sock"}}, "url"),
        ({"redis": {"url": "redis://a.example.com/zero"}}, "url"),
        ({"audit": {"checkpoint": {"emptyDir": "yes"}}}, "emptyDir"),
        ({"spreadOverNodes": "Maybe"}, "spreadOverNodes"),
        ({"networkPolicy": {"postgres": {"to": [{}]}}}, "postgres"),
        ({"storage": {"volume": {"size": "lots"}}}, "size"),
        ({"scaling": [{"namespace": "production", "deployments": []}]}, "deployments"),
        ({"scaling": [{"namespace": "production", "deployments": ["*"]}]}, "deployments"),
        ({"scaling": [{"namespace": "*", "deployments": ["a"]}]}, "namespace"),
        ({"scaling": [{"deployments": ["a"]}]}, "namespace"),
        ({"rules": {"../escape.yaml": "rules: []"}}, "../escape.yaml"),
        ({"rules": {"a.yaml": {"rules": []}}}, "rules"),
        ({"secretFiles": [{"name": "intake", "secret": "s"}]}, "secretFiles"),
        ({"secretFiles": [{"name": "storage", "secret": "s"}]}, "secretFiles"),
        ({"networkPolicy": {"extraIngress": [{}]}}, "extraIngress"),
        ({"networkPolicy": {"kubernetesApi": {"cidrs": ["kubernetes.default"]}}}, "cidrs"),
        ({"terminationGracePeriodSeconds": 1}, "terminationGracePeriodSeconds"),
        ({"log": {"level": "loud"}}, "level"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_schema_rejects_nonsense(values: dict[str, Any], where: str) -> None:
    """A value that is misspelled, out of range or wider than it looks is refused, and it is named."""
    with helm_python.Chart.load(CHART) as chart, pytest.raises(helm_python.HelmValuesError) as refusal:
        chart.validate_schema({**LEAST, **values})
    assert where in str(refusal.value)


def test_the_schema_speaks_the_words_of_the_server() -> None:
    """Modes, log levels and log formats are those that the server knows, no more and no fewer."""
    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema is not None
        properties = chart.schema["properties"]
    assert properties["maxMode"]["enum"] == list(Mode)
    assert properties["log"]["properties"]["level"]["enum"] == list(LEVELS)
    assert properties["log"]["properties"]["format"]["enum"] == list(FORMATS)


def test_the_schema_knows_every_default() -> None:
    """Each value that values.yaml offers is described by the schema, and the schema describes no other."""

    def keys(node: Any, path: str = "") -> set[str]:
        if not isinstance(node, dict) or not node:
            return {path}
        return {path}.union(*(keys(value, f"{path}.{key}") for key, value in node.items()))

    def described(node: dict[str, Any], path: str = "") -> set[str]:
        if "$ref" in node:
            node = definitions[node["$ref"].removeprefix("#/definitions/")]
        properties = node.get("properties", {})
        return {path}.union(*(described(value, f"{path}.{key}") for key, value in properties.items()))

    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema is not None
        definitions = chart.schema["definitions"]
        offered = {path for path in keys(chart.values) if not path.startswith(".resources.")}
        assert described(chart.schema) - {".global"} == offered


def test_the_notes_tell_where_alertmanager_delivers() -> None:
    """After an install the operator reads the webhook's address and what Remediator may touch."""
    text = notes(SCALING)
    assert "http://remediator.ops.svc:9095/api/v1/alertmanager" in text
    assert "production: minting-worker, minting-service" in text
    assert "It has no rules yet" in text
    assert "One replica with a SQLite database" in text
