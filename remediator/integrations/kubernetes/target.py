"""The settings of a target of kind ``kubernetes``, and its connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, PrivateAttr, StringConstraints, field_validator, model_validator

from remediator.clock import Duration
from remediator.integrations.kubernetes._command import COMMAND, ContainerCommand
from remediator.target import Target

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster


class KubernetesTarget(Target):
    """One cluster, reached with a kubeconfig or as the pod's own service account.

    Without any setting the kubeconfig is the one kubectl would use: $KUBECONFIG or ~/.kube/config.
    """

    lists: ClassVar[tuple[str, ...]] = (
        "namespaces",
        "deployments",
        "statefulsets",
        "pods",
        "services",
        "cronjobs",
        "nodes",
        "images",
        "commands",
    )

    context: str | None = Field(
        default=None, min_length=1, description="Context of the kubeconfig; its current context if absent."
    )
    kubeconfig: str | None = Field(
        default=None, min_length=1, description="Path of the kubeconfig; read again when it changes."
    )
    in_cluster: bool = Field(default=False, description="Use the service account of the pod that Remediator runs in.")
    request_timeout: Duration = Field(
        default=10.0, gt=0, le=120, description="How long one request to the API server may take."
    )

    commands: dict[Annotated[str, StringConstraints(pattern=COMMAND)], ContainerCommand] = Field(
        default_factory=dict,
        description="Programs that `kubernetes.exec` may run in containers, by the name that rules use.",
    )

    _cluster: Cluster | None = PrivateAttr(default=None)
    _opening: asyncio.Lock = PrivateAttr(default_factory=asyncio.Lock)

    @field_validator("kubeconfig")
    @classmethod
    def _kubeconfig(cls, path: str | None) -> str | None:
        if path is not None and ("\x00" in path or not all(p.startswith(("/", "~/")) for p in path.split(":"))):
            raise ValueError("kubeconfig must be an absolute path, or one that begins with ~/")
        return path

    @model_validator(mode="after")
    def _one_way_in(self) -> KubernetesTarget:
        if self.in_cluster and (self.kubeconfig is not None or self.context is not None):
            raise ValueError("write in_cluster: true, or kubeconfig and context, not both")
        return self

    async def cluster(self) -> Cluster:
        """The connection, made on first use and with credentials no older than a minute.

        Raises PermanentError when the kubeconfig or the service account cannot be used.
        """
        async with self._opening:
            if self._cluster is None:
                # In a thread: the import would stop the whole service for more than a second.
                module = await asyncio.to_thread(_import_cluster)
                self._cluster = module(
                    kubeconfig=self.kubeconfig,
                    context=self.context,
                    in_cluster=self.in_cluster,
                    seconds=self.request_timeout,
                )
            await self._cluster.refresh()
            return self._cluster

    async def close(self) -> None:
        """Release the connections."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await cluster.close()


def _import_cluster() -> type[Cluster]:
    from remediator.integrations.kubernetes._cluster import Cluster

    return Cluster
