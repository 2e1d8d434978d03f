"""Tests of the settings of a target of kind kubernetes, and of how it gets its credentials."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.kubernetes.deployment import Deployment
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, api_server
from tests.integrations.support import looking

LOOK = Deployment(namespace="production", name="minting-worker")


def _target(**settings: Any) -> KubernetesTarget:
    return KubernetesTarget.model_validate({"request_timeout": "1s", **settings})


def test_one_way_in() -> None:
    """A target is either the pod's service account or a kubeconfig, never a mixture."""
    with pytest.raises(ValidationError, match="not both"):
        _target(in_cluster=True, context="prod")
    with pytest.raises(ValidationError, match="absolute path"):
        _target(kubeconfig="config/kube")
    with pytest.raises(ValidationError, match="request_timeout"):
        _target(request_timeout="0s")


def test_the_client_is_not_imported_before_it_is_used() -> None:
    """Loading rules and settings with Kubernetes in them stays fast: the heavy library is not imported."""
    code = (
        "import sys, remediator.integrations.kubernetes.scale, remediator.integrations.kubernetes.deployment\n"
        "sys.exit('kubernetes' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_another_context_has_other_credentials(api: ApiServer, tmp_path: Path) -> None:
    """The context of the settings decides; wrong credentials are permanent and never shown."""
    target = _target(kubeconfig=api.kubeconfig(tmp_path), context="stranger")
    with pytest.raises(PermanentError, match="credentials are not accepted") as caught:
        await LOOK.read(target, looking())
    assert caught.value.reason == "status_401"
    assert "wrong" not in str(caught.value)
    await target.close()


async def test_a_new_kubeconfig_is_used_at_once(api: ApiServer, tmp_path: Path) -> None:
    """A rotated token works without a restart."""
    target = _target(kubeconfig=api.kubeconfig(tmp_path))
    await LOOK.read(target, looking())
    api.token = "rotated"
    path = api.kubeconfig(tmp_path)
    os.utime(path, (1, 1))
    assert (await LOOK.read(target, looking()))["desired"] == 3
    await target.close()


async def test_a_token_file_is_read_again(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token file named by the kubeconfig is read again after a minute at most."""
    file = tmp_path / "token"
    file.write_text(api.token)
    target = _target(kubeconfig=api.kubeconfig(tmp_path, tokenFile=str(file)))
    await LOOK.read(target, looking())
    api.token = "rotated"
    file.write_text("rotated")
    monkeypatch.setattr("remediator.integrations.kubernetes._connection._REFRESH", 0.0)
    assert (await LOOK.read(target, looking()))["desired"] == 3
    await target.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [canary",
        "current-context: prod\nusers: [{name: prod, user: {token: canary}}]",
        "- canary",
        "apiVersion: v1\nkind: Config\nclusters: canary",
    ],
)
async def test_a_broken_kubeconfig_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    """A kubeconfig that cannot be used is permanent, and its content, which may be a token, stays out of messages."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(PermanentError, match=r"credentials|kubeconfig") as caught:
        await LOOK.read(_target(kubeconfig=str(path)), looking())
    assert caught.value.reason == "kubeconfig"
    assert "canary" not in str(caught.value)


async def test_what_is_missing_is_named(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, an unknown context and a missing service account are permanent errors."""
    with pytest.raises(PermanentError):
        await LOOK.read(_target(kubeconfig=str(tmp_path / "none")), looking())
    with pytest.raises(PermanentError, match="nowhere"):
        await LOOK.read(_target(kubeconfig=api.kubeconfig(tmp_path), context="nowhere"), looking())
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(PermanentError, match="Service host"):
        await LOOK.read(_target(in_cluster=True), looking())


async def test_the_pods_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cluster the pod's token, address and authority are used, and a server that is not trusted gets nothing."""
    token, authority, key = tmp_path / "token", tmp_path / "ca.crt", tmp_path / "key"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=api", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(authority)]
    await asyncio.to_thread(subprocess.run, [*request, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_CERT_FILENAME", str(authority))
    async with api_server(context) as api:
        api.add("deployments", "minting-worker", 3)
        token.write_text(api.token)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", api.url.rpartition(":")[2])
        target = _target(in_cluster=True)
        assert (await LOOK.read(target, looking()))["desired"] == 3
        await target.close()
        calls = len(api.calls)
        monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_CERT_FILENAME", certifi.where())
        stranger = _target(in_cluster=True)
        with pytest.raises(PermanentError, match="not trusted"):
            await LOOK.read(stranger, looking())
        await stranger.close()
        assert len(api.calls) == calls
