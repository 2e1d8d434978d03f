"""The chart with several replicas on PostgreSQL: what it adds, what it leaves out, and what it refuses."""

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from remediator.catalogue import Catalogue
from remediator.cli.migrate import migrate
from remediator.cli.serve import serve
from remediator.settings import Settings, Worker, load_settings
from remediator.stores import _postgres_connect
from tests.helm.chart import CHART, FULL, LEAST, notes, one, render

URL = "postgresql://remediator@db.example.com:5433/remediator"
VERIFIED = URL + "?sslmode=verify-full&sslrootcert=/etc/remediator/secrets/db/ca.crt"
DATABASE = [{"ipBlock": {"cidr": "192.0.2.20/32"}}]
CACHE = [{"podSelector": {"matchLabels": {"app": "redis"}}}]


def on_postgres(values: dict[str, Any] | None = None, **storage: Any) -> dict[str, Any]:
    """The least that installs on PostgreSQL, and ``values`` and more of ``storage``."""
    values = values or {}
    policy = {"postgres": {"to": DATABASE}, **values.get("networkPolicy", {})}
    least = {"url": URL, "passwordSecret": {"name": "db-password"}}
    return {**LEAST, **values, "storage": {**least, **storage}, "networkPolicy": policy}


POSTGRES = on_postgres()
WITH_REDIS = on_postgres({
    "redis": {"url": "rediss://remediator@redis.example.com/3", "passwordSecret": {"name": "redis", "key": "secret"}},
    "networkPolicy": {"redis": {"to": CACHE}},
})
OWNER = {"url": VERIFIED.replace("remediator@", "owner@"), "passwordSecret": {"name": "owner", "key": "pw"}}
EVERYTHING = on_postgres(
    {
        **FULL,
        "redis": WITH_REDIS["redis"],
        "networkPolicy": {**FULL["networkPolicy"], "redis": {"to": CACHE}},
        "replicas": 3,
        "secretFiles": [{"name": "db", "secret": "db-ca"}, {"name": "minting", "secret": "minting-token"}],
        "audit": {"checkpoint": {"existingClaim": "checkpoints"}},
        "settings": {
            "storage": {"pool_size": 20, "retention": "400d"},
            "redis": {"prefix": "blue"},
            "worker": {"grace": "1m30s"},
        },
    },
    url=VERIFIED,
    schema="blue",
    migrateJob={"enabled": True, "grantTo": "remediator", **OWNER},
)
SHAPES = {"least": POSTGRES, "redis": WITH_REDIS, "everything": EVERYTHING}


def deployment(values: dict[str, Any]) -> Any:
    """The spec of the rendered Deployment."""
    return one(render(values), "Deployment")["spec"]


def pod(values: dict[str, Any]) -> Any:
    """The spec of the service's pods."""
    return deployment(values)["template"]["spec"]


def settings(values: dict[str, Any], folder: Path) -> Settings:
    """What the server makes of the rendered remediator.yaml and the flags that it is started with."""
    documents = render(values)
    file = folder / "remediator.yaml"
    file.write_text(one(documents, "ConfigMap", "-settings")["data"]["remediator.yaml"])
    [container] = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    flags = serve.make_context("serve", list(container["args"][1:])).params
    given = {
        "web.listen_address": flags["listen_address"],
        "storage.url": flags["storage_url"],
        "storage.migrate": flags["storage_migrate"],
        "mode_max": flags["mode_max"],
    }
    return load_settings(file, Catalogue(), {key: value for key, value in given.items() if value is not None})


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_lint_finds_nothing(values: dict[str, Any]) -> None:
    """Helm's linter, with warnings counted as errors, has nothing to say against the chart on PostgreSQL."""
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= 2] == []


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_every_document_has_a_name_of_its_own_and_every_volume_its_mount(values: dict[str, Any]) -> None:
    """Every document parses and is one of a kind, and no pod lacks a volume or carries one for nothing."""
    documents = render(values)
    names = {(d["kind"], d["metadata"]["namespace"], d["metadata"]["name"]) for d in documents}
    assert len(names) == len(documents)
    for document in documents:
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "remediator"
        if document["kind"] in {"Deployment", "Job"}:
            spec = document["spec"]["template"]["spec"]
            mounts = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
            assert mounts == {volume["name"] for volume in spec["volumes"]}


def test_replicas_roll_and_none_is_missing_meanwhile() -> None:
    """There are two replicas unless another number is asked for, and an upgrade never runs fewer than that."""
    spec = deployment(POSTGRES)
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert deployment(on_postgres({"replicas": 1}))["replicas"] == 1
    assert deployment(on_postgres({"replicas": 5}))["replicas"] == 5


def test_replicas_stand_on_different_nodes_and_are_drained_one_by_one() -> None:
    """Pods are spread over nodes and at most one is evicted at a time; a single one has neither rule."""
    documents = render(on_postgres({"spreadOverNodes": "DoNotSchedule"}))
    template = one(documents, "Deployment")["spec"]["template"]
    [spread] = template["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (1, "DoNotSchedule")
    budget = one(documents, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    for selector in (spread["labelSelector"], budget["selector"]):
        assert selector["matchLabels"]
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    for single in (LEAST, on_postgres({"replicas": 1})):
        assert not [d for d in render(single) if d["kind"] == "PodDisruptionBudget"]
        assert "topologySpreadConstraints" not in pod(single)


def test_no_volume_is_claimed_for_the_database() -> None:
    """On PostgreSQL nothing is claimed, and the pods can write to /tmp alone."""
    documents = render(POSTGRES)
    assert not [d for d in documents if d["kind"] == "PersistentVolumeClaim"]
    [container] = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")} == {"/tmp"}


def test_the_checkpoint_is_kept_where_it_was_asked_for(tmp_path: Path) -> None:
    """The file of the settings lies on the volume that was chosen: one that goes with the pod, or a claim."""
    shapes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "pod": ({"emptyDir": True}, {"emptyDir": {"sizeLimit": "16Mi"}}),
        "claim": ({"existingClaim": "c"}, {"persistentVolumeClaim": {"claimName": "c"}}),
    }
    for place, source in shapes.values():
        values = on_postgres({"audit": {"checkpoint": place}})
        spec = pod(values)
        assert {"name": "checkpoint", **source} in spec["volumes"]
        [mount] = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "checkpoint"]
        file = settings(values, tmp_path).checkpoint_file
        assert file is not None
        assert str(file.parent) == mount["mountPath"]
    assert settings(POSTGRES, tmp_path).checkpoint_file is None


def test_sqlite_may_keep_its_checkpoint_on_another_volume(tmp_path: Path) -> None:
    """A claim beside the one of the database finds that the whole directory of the database went back."""
    values = {**LEAST, "audit": {"checkpoint": {"existingClaim": "c"}}}
    mounts = {m["name"]: m["mountPath"] for m in pod(values)["containers"][0]["volumeMounts"]}
    assert str(settings(values, tmp_path).checkpoint_file) == mounts["checkpoint"] + "/audit.checkpoint"
    assert mounts["data"] == "/var/lib/remediator"


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_the_settings_are_settings_of_the_server(values: dict[str, Any], tmp_path: Path) -> None:
    """The server accepts what is rendered, and every file it is told of lies in a Secret that is mounted."""
    read = settings(values, tmp_path)
    assert read.storage.postgres
    assert read.storage.url == values["storage"]["url"]
    spec = pod(values)
    mounts = {m["mountPath"]: m["name"] for m in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    files = [read.intake.tokens_file, read.storage.password_file, read.redis.password_file if read.redis else None]
    for file in (file for file in files if file is not None):
        folder, _, key = file.rpartition("/")
        assert [item["path"] for item in volumes[mounts[folder]]["secret"]["items"]] == [key]


def test_what_the_settings_say_beside_the_chart_is_kept(tmp_path: Path) -> None:
    """The chart adds its own lines of storage and redis to those of the operator and takes none away."""
    read = settings(EVERYTHING, tmp_path)
    assert (read.storage.schema_, read.storage.pool_size, read.storage.retention) == ("blue", 20, 400 * 86400.0)
    assert read.redis is not None
    assert (read.redis.url, read.redis.prefix) == ("rediss://remediator@redis.example.com/3", "blue")


def test_passwords_can_be_replaced_in_a_running_pod() -> None:
    """Secrets are mounted as folders: Kubernetes never renews a file that is mounted by its own path."""
    for mount in pod(EVERYTHING)["containers"][0]["volumeMounts"]:
        assert "subPath" not in mount or mount["name"] == "settings"


def test_a_pod_is_not_ended_before_its_steps_are() -> None:
    """The pod is given worker.grace and the time of everything else that an end takes, whatever the grace is."""
    for grace, seconds in ({None: Worker().grace, "0": 0, "1500ms": 2, "1m30s": 90, "10m": 600}).items():
        values = on_postgres({"settings": {"worker": {"grace": grace}}} if grace else {})
        spec = pod(values)
        assert spec["terminationGracePeriodSeconds"] == seconds + 35
        assert spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 3
    assert pod(on_postgres({"terminationGracePeriodSeconds": 300}))["terminationGracePeriodSeconds"] == 300


def test_the_job_migrates_before_the_pods_and_they_do_not(tmp_path: Path) -> None:
    """With the Job only the owner's role changes the schema, before an upgrade, and the service's role is let in."""
    documents = render(EVERYTHING)
    job = one(documents, "Job", "-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    [container] = job["spec"]["template"]["spec"]["containers"]
    command, *flags = container["args"]
    given = migrate.make_context(command, list(flags)).params
    assert (given["url"], given["schema"], given["role"]) == (OWNER["url"], "blue", "remediator")
    assert given["password_file"] == "/etc/remediator/secrets/storage/pw"
    assert settings(EVERYTHING, tmp_path).storage.migrate is False
    assert settings(POSTGRES, tmp_path).storage.migrate is True
    assert not [d for d in render(POSTGRES) if d["kind"] == "Job"]


def test_the_job_uses_the_services_role_unless_it_is_given_another() -> None:
    """Without an owner's address the Job takes the address and the password of the service."""
    job = one(render(on_postgres(migrateJob={"enabled": True})), "Job")["spec"]["template"]["spec"]
    assert f"--storage.url={URL}" in job["containers"][0]["args"]
    assert {volume["secret"]["secretName"] for volume in job["volumes"] if "secret" in volume} == {"db-password"}


def test_the_job_holds_no_secret_it_does_not_need() -> None:
    """It gets the database's password and certificate, no target's token, no account, and no right to root."""
    job = one(render(EVERYTHING), "Job")["spec"]["template"]["spec"]
    assert {v["secret"]["secretName"] for v in job["volumes"] if "secret" in v} == {"owner", "db-ca"}
    assert job["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in job, "the account of the release is not there yet when the Job runs"
    service = pod(EVERYTHING)
    assert job["securityContext"] == service["securityContext"]
    assert job["containers"][0]["securityContext"] == service["containers"][0]["securityContext"]


def test_no_delivery_reaches_the_job() -> None:
    """The Service and the policy of the service do not select the Job's pod; its own policy lets nobody in."""
    documents = render(EVERYTHING)
    labels = one(documents, "Job")["spec"]["template"]["metadata"]["labels"]
    assert not one(documents, "Service")["spec"]["selector"].items() <= labels.items()
    policy = one(documents, "NetworkPolicy", "-migrate")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["ingress"] == []
    _, database = policy["spec"]["egress"]
    assert database == {"to": DATABASE, "ports": [{"port": 5433, "protocol": "TCP"}]}
    weight = "helm.sh/hook-weight"
    job = one(documents, "Job")
    assert int(policy["metadata"]["annotations"][weight]) < int(job["metadata"]["annotations"][weight])


def egress(values: dict[str, Any]) -> Any:
    """The egress rules of the service after the one for DNS."""
    [policy] = [d for d in render(values) if d["kind"] == "NetworkPolicy" and d["metadata"]["name"] == "remediator"]
    return policy["spec"]["egress"][1:]


def test_the_pods_reach_their_database_and_their_redis_and_nothing_else() -> None:
    """Each has one rule with its peers and the port of its address; a port of one's own wins."""
    assert egress(WITH_REDIS) == [
        {"to": DATABASE, "ports": [{"port": 5433, "protocol": "TCP"}]},
        {"to": CACHE, "ports": [{"port": 6379, "protocol": "TCP"}]},
    ]
    pooled = on_postgres({"networkPolicy": {"postgres": {"to": DATABASE, "ports": [6432]}}})
    assert egress(pooled) == [{"to": DATABASE, "ports": [{"port": 6432, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("postgresql://db.example.com/remediator", [5432]),
        ("postgres://a@[2001:db8::1]:6000/remediator?application_name=b:1", [6000]),
        ("postgresql://a@[2001:db8::1]/remediator", [5432]),
        ("postgresql://a@one:5433,two,three:5433/remediator?x=:9/1", [5433, 5432]),
    ],
)
def test_the_ports_are_those_of_the_address(url: str, ports: list[int]) -> None:
    """Every host of an address with several is reached at its own port."""
    [rule] = egress(on_postgres(url=url))
    assert [port["port"] for port in rule["ports"]] == ports


def test_a_new_version_has_time_to_migrate() -> None:
    """A pod that migrates by itself is not restarted after a minute, which would begin the migration anew."""
    probe = pod(POSTGRES)["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 600
    probe = pod(EVERYTHING)["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 60


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-password": (on_postgres(passwordSecret={"name": ""}), "PostgreSQL would not let the pods in"),
    "password-in-url": (on_postgres(url="postgresql://a:hunter2@db/x"), "storage.url holds a password"),
    "password-in-query": (on_postgres(url="postgresql://a@db/x?password=hunter2"), "storage.url holds a password"),
    "password-of-owner": (
        on_postgres(migrateJob={"enabled": True, **OWNER, "url": "postgresql://o:hunter2@db/x"}),
        "storage.migrateJob.url holds a password",
    ),
    "password-of-redis": (
        on_postgres({"redis": {"url": "redis://:hunter2@r/0"}, "networkPolicy": {"redis": {"to": CACHE}}}),
        "redis.url holds a password",
    ),
    "owner-without-password": (
        on_postgres(migrateJob={"enabled": True, "url": "postgresql://owner@db/x"}),
        "storage.migrateJob.passwordSecret.name",
    ),
    "unreachable-database": ({**POSTGRES, "networkPolicy": {}}, "networkPolicy.postgres.to"),
    "unreachable-redis": (on_postgres({"redis": {"url": "redis://r"}}), "networkPolicy.redis.to"),
    "redis-without-address": (on_postgres({"redis": {"passwordSecret": {"name": "r"}}}), "redis.url is empty"),
    "two-places": (
        on_postgres({"audit": {"checkpoint": {"emptyDir": True, "existingClaim": "c"}}}),
        "emptyDir and existingClaim are both set",
    ),
    "password-file-twice": (
        on_postgres({"settings": {"storage": {"password_file": "x"}}}),
        "settings.storage.password_file is written by the chart",
    ),
    "too-short": (
        on_postgres({"settings": {"worker": {"grace": "2m"}}, "terminationGracePeriodSeconds": 60}),
        "write 155 or more",
    ),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_the_chart_refuses(values: dict[str, Any], message: str) -> None:
    """What would expose a password, or never become ready, is refused with a way out, and no password is repeated."""
    with pytest.raises(helm_python.HelmRenderError) as refusal:
        render(values)
    assert message in str(refusal.value)
    assert ";" in str(refusal.value), "the message does not say what to write instead"
    assert "hunter2" not in str(refusal.value)


def test_a_client_certificate_needs_no_password() -> None:
    """Who opens the database with a key of its own may leave the password out."""
    values = on_postgres(url=URL + "?sslcert=/c&sslkey=/k", passwordSecret={"name": ""})
    assert "storage-password" not in {volume["name"] for volume in pod(values)["volumes"]}


def test_the_notes_say_what_is_not_guarded() -> None:
    """The operator reads how many connections there are, whether the server is verified, and what finds a loss."""
    plain = notes(POSTGRES)
    assert "2 replicas share one PostgreSQL (schema remediator); each opens up to 11" in plain
    assert "nobody checks that it is your database" in plain
    assert "There is no checkpoint of the audit" in plain
    full = notes(EVERYTHING)
    assert "3 replicas share one PostgreSQL (schema blue); each opens up to 21" in full
    assert "nobody checks" not in full
    assert "checkpoint" not in full
    assert "only finds what is lost during the pod's life" in notes(
        on_postgres({"audit": {"checkpoint": {"emptyDir": True}}})
    )


def test_the_notes_name_the_lines_that_a_settings_secret_must_have(tmp_path: Path) -> None:
    """What the chart cannot add to a Secret it prints, as lines that the server accepts."""
    text = notes({**WITH_REDIS, "settingsSecret": "all"})
    lines = text.partition("must have these lines:\n")[2].partition("\n\n")[0]
    assert yaml.safe_load(lines).keys() == {"intake", "storage", "redis"}
    file = tmp_path / "remediator.yaml"
    file.write_text(lines)
    assert load_settings(file, Catalogue()).storage.url == URL


def test_the_schema_takes_the_names_that_the_store_takes() -> None:
    """A name of a schema is refused by the chart exactly when the store would refuse it."""
    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema is not None
        pattern = chart.schema["properties"]["storage"]["properties"]["schema"]["pattern"]
    assert pattern == f"^{_postgres_connect._SCHEMA.pattern}$"
