"""Where the contract suite runs: on the stand-in, or in namespaces of its own on the real API server.

A real cluster needs controllers, and no kubelet: the pods of the suite are bound to no node, and the suite itself says
which of them are ready. So nothing is pulled or run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from remediator.errors import ActionError
from remediator.integrations.kubernetes._cluster import Cluster
from remediator.integrations.kubernetes._failure import Request
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, api_server

VARIABLE = "REMEDIATOR_KUBECONFIG"
"""Names the kubeconfig of an administrator of the real cluster; `make test-kubernetes` sets it."""
APPS, CORE = "/apis/apps/v1", "/api/v1"


class Ground:
    """A namespace, and the hands of the people who work in it."""

    def __init__(self, directory: Path, kubeconfig: str, namespace: str, stand_in: ApiServer | None) -> None:
        self._directory = directory
        self._stand_in = stand_in
        self.namespace = namespace
        self.target = KubernetesTarget.model_validate({"kubeconfig": kubeconfig, "request_timeout": "10s"})
        self._targets = [self.target]

    async def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One request of an administrator."""
        cluster: Cluster = await self.target.cluster()
        request = Request(verb=method.lower(), resource=path, namespace=self.namespace)
        return await cluster.call(request, method, path, json.loads, body=body, content_type=kind)

    def path(self, resource: str, name: str = "", base: str = APPS) -> str:
        """Where objects of the namespace are."""
        return f"{base}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    async def deploy(self, name: str, *, replicas: int = 2, image: str = "minting:1.2", **labels: str) -> None:
        """A deployment that becomes complete."""
        labels = {"app": name, **labels}
        container = {"name": "main", "image": image}
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "replicas": replicas,
                "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"nodeSelector": {"remediator.io/none": "none"}, "containers": [container]},
                },
            },
        }
        await self.send("POST", self.path("deployments"), body)
        await self.settled(name)

    async def change(self, resource: str, name: str, spec: dict[str, Any], base: str = APPS) -> Any:
        """Somebody else changes the wish of an object."""
        kind = "application/strategic-merge-patch+json"
        return await self.send("PATCH", self.path(resource, name, base), {"spec": spec}, kind)

    async def roll(self, name: str, image: str, **env: str) -> None:
        """Somebody deploys another image and other variables."""
        container = {"name": "main", "image": image, "env": [{"name": k, "value": v} for k, v in env.items()]}
        await self.change("deployments", name, {"template": {"spec": {"containers": [container]}}})

    async def deployment(self, name: str) -> Any:
        """The deployment as it is now."""
        return await self.send("GET", self.path("deployments", name))

    async def container(self, name: str) -> Any:
        """The container of the deployment's template."""
        return (await self.deployment(name))["spec"]["template"]["spec"]["containers"][0]

    async def settled(self, name: str) -> None:
        """Wait until the rollout is complete."""
        for _ in range(600):
            found = await self.deployment(name)
            status, n = found.get("status", {}), found["spec"]["replicas"]
            seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            if seen and counts == [n, n, n]:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{name} does not settle")

    async def limited(self, documents: list[dict[str, Any]]) -> KubernetesTarget:
        """A target whose identity may do what these Roles allow and nothing else."""
        if self._stand_in is not None:
            self._stand_in.use_roles(yaml.safe_dump_all(documents))
            return self.target
        account = f"limited-{uuid.uuid4().hex[:8]}"
        await self.send("POST", self.path("serviceaccounts", base=CORE), {"metadata": {"name": account}})
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        for document in documents:
            resource = {"Role": "roles", "RoleBinding": "rolebindings"}[document["kind"]]
            body = {**document, "metadata": {**document["metadata"], "name": account}}
            if resource == "rolebindings":
                body["roleRef"] = {**document["roleRef"], "name": account}
                body["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}]
            await self.send("POST", self.path(resource, base=rbac), body)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        made = await self.send("POST", self.path("serviceaccounts", f"{account}/token", CORE), asked)
        config = yaml.safe_load(Path(str(self.target.kubeconfig)).read_text())
        for user in config["users"]:
            user["user"] = {"token": made["status"]["token"]}
        path = self._directory / f"{account}.yaml"
        path.write_text(yaml.safe_dump(config))
        target = KubernetesTarget.model_validate({"kubeconfig": str(path), "request_timeout": "10s"})
        self._targets.append(target)
        return target

    def all_rights(self) -> None:
        """The identity of the stand-in may do everything again; a real cluster has one identity for each Role."""
        if self._stand_in is not None:
            self._stand_in.grants = None

    async def kubelet(self) -> None:
        """Say of every pod whose image does not contain ``never`` that it is ready, until cancelled."""
        while True:
            with contextlib.suppress(ActionError):
                listed = await self.send("GET", self.path("pods", base=CORE))
                for pod in listed["items"]:
                    ready = {"type": "Ready", "status": "True"} in [
                        {"type": each["type"], "status": each["status"]}
                        for each in pod.get("status", {}).get("conditions", [])
                    ]
                    images = [each["image"] for each in pod["spec"]["containers"]]
                    if not ready and not any("never" in image for image in images):
                        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                        kind = "application/strategic-merge-patch+json"
                        where = self.path("pods", f"{pod['metadata']['name']}/status", CORE)
                        await self.send("PATCH", where, {"status": status}, kind)
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Release the connections."""
        for target in self._targets:
            await target.close()


@contextlib.asynccontextmanager
async def ground(directory: Path) -> AsyncIterator[Ground]:
    """The place that $REMEDIATOR_KUBECONFIG says, or the stand-in."""
    kubeconfig = os.environ.get(VARIABLE)
    if not kubeconfig:
        async with api_server() as api:
            it = Ground(directory, api.kubeconfig(directory), "contract", api)
            yield it
            await it.close()
        return
    it = Ground(directory, kubeconfig, f"remediator-{uuid.uuid4().hex[:8]}", None)
    await it.send("POST", f"{CORE}/namespaces", {"metadata": {"name": it.namespace}})
    kubelet = asyncio.create_task(it.kubelet())
    try:
        yield it
    finally:
        kubelet.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await kubelet
        await it.send("DELETE", f"{CORE}/namespaces/{it.namespace}")
        await it.close()
