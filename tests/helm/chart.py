"""The chart as its tests see it: values to install it with, and what Helm's own code makes of them."""

from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "helm" / "remediator"

# The least that installs: the chart refuses to guess the token.
LEAST: dict[str, Any] = {"intake": {"tokensSecret": {"name": "remediator-intake"}}}
SCALING: dict[str, Any] = {
    **LEAST,
    "scaling": [
        {"namespace": "production", "deployments": ["minting-worker", "minting-service"]},
        {"namespace": "staging", "deployments": ["minting-worker"]},
    ],
    "networkPolicy": {"kubernetesApi": {"cidrs": ["192.0.2.10/32"]}},
}
FULL: dict[str, Any] = {
    **SCALING,
    "rules": {"minting.yaml": "rules: []\n"},
    "rulesConfigMaps": ["more-rules"],
    "settings": {"targets": {"prod": {"kind": "kubernetes"}}},
    "secretFiles": [{"name": "minting", "secret": "minting-admin-token"}],
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "image": {"digest": "sha256:" + "0" * 64},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "pull"}],
    "podLabels": {"team": "sre"},
    "podAnnotations": {"example.com/a": "b"},
    "service": {"annotations": {"example.com/a": "b"}},
}


def render(values: dict[str, Any], name: str = "remediator") -> list[dict[str, Any]]:
    """Every document of the rendered chart, parsed: Helm itself lets broken YAML through."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name=name, namespace="ops")
    documents = []
    for path, text in files.items():
        if not path.endswith("NOTES.txt"):
            documents += [document for document in yaml.safe_load_all(text) if document is not None]
    return documents


def notes(values: dict[str, Any]) -> str:
    """What the operator reads after the installation."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name="remediator", namespace="ops")
    [text] = [text for path, text in files.items() if path.endswith("NOTES.txt")]
    return text


def one(documents: list[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    """The only document of a kind (whose name ends with suffix)."""
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, [d["metadata"]["name"] for d in found]
    return found[0]
