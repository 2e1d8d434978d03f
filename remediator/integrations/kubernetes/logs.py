"""``kubernetes.logs``: the end of the logs of some pods, bounded and without secrets, and a pattern counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import re2
from pydantic import AfterValidator, Field, model_validator

from remediator.clock import Duration
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._pods import Pod, pods_of, workload_grants
from remediator.integrations.kubernetes._thing import ContainerName, Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext
from remediator.redact import redact_text

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

_LINE = 500


def _pattern(text: str) -> str:
    try:
        re2.compile(text)
    except re2.error as error:
        raise ValueError(f"this is no RE2 expression: {error}") from None
    return text


class Logs(Probe[KubernetesTarget]):
    """Reads the last lines of the logs of a deployment's or stateful set's pods, or of one pod, and counts a pattern.

    At most `max_bytes` leave the API server for each pod, and only the last lines that match are kept as evidence.
    """

    literal: ClassVar[frozenset[str]] = frozenset({"pattern"})

    namespace: Namespace = Field(description="The namespace of the object.")
    deployment: Name | None = Field(default=None, description="The deployment.")
    statefulset: Name | None = Field(default=None, description="The stateful set.")
    pod: Name | None = Field(default=None, description="One pod.")
    container: ContainerName | None = Field(default=None, description="The container; the first one if absent.")
    pattern: Annotated[str, AfterValidator(_pattern)] = Field(
        default="", max_length=500, description="RE2 expression; the lines in which it is found are counted and kept."
    )
    tail: int = Field(default=200, ge=1, le=5000, description="How many of the last lines of each pod are looked at.")
    since: Duration | None = Field(default=None, description="Only lines written within this time.")
    previous: bool = Field(default=False, description="The log of the containers before their last restart.")
    max_bytes: int = Field(default=262_144, ge=1024, le=4_194_304, description="At most so much of each pod's log.")
    max_pods: int = Field(default=5, ge=1, le=50, description="At most so many pods, those in trouble first.")
    keep: int = Field(default=10, ge=0, le=100, description="How many of the last matching lines are evidence.")

    @model_validator(mode="after")
    def _one_object(self) -> Logs:
        if sum(each is not None for each in (self.deployment, self.statefulset, self.pod)) != 1:
            raise ValueError("write deployment, statefulset or pod, exactly one of them")
        return self

    @property
    def _thing(self) -> Thing:
        if self.deployment is not None:
            return Thing("deployment", self.namespace, self.deployment)
        if self.statefulset is not None:
            return Thing("statefulset", self.namespace, self.statefulset)
        return Thing("pod", self.namespace, self.pod or "")

    def needs(self) -> Mapping[str, str]:
        """Namespace and object must be permitted."""
        return {"namespaces": self.namespace, self._thing.resource: self._thing.name}

    def grants(self) -> list[Grant]:
        """Finding the pods and reading their logs."""
        if self.pod is not None:
            return grants_on(self._thing, "get") + grants_on(self._thing, "get", sub="log")
        logs = grants_on(Thing("pod", self.namespace, ""), "get", sub="log")
        return workload_grants(self._thing) + logs

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """Counts and the last matching lines as evidence. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        if self.pod is not None:
            found = [await cluster.get(self._thing, Pod)]
        else:
            found = await pods_of(cluster, self._thing)
        chosen = sorted(found, key=lambda pod: (pod.ready, -pod.restarts))[: self.max_pods]
        expression = re2.compile(self.pattern)
        lines = matches = 0
        kept: list[str] = []
        cut = False
        for pod in chosen:
            text = await self._log(cluster, pod)
            cut = cut or len(text.encode()) >= self.max_bytes
            every = text.splitlines()
            hits = [line for line in every if expression.search(line)]
            lines, matches = lines + len(every), matches + len(hits)
            kept += [redact_text(line)[:_LINE] for line in hits[-self.keep :]] if self.keep else []
        return {
            "pods": len(chosen),
            "pods_left_out": len(found) - len(chosen),
            "lines": lines,
            "matches": matches,
            "cut": cut,
            "last": kept[-self.keep :] if self.keep else [],
        }

    async def _log(self, cluster: Cluster, pod: Pod) -> str:
        names = pod.container_names()
        container = self.container or (names[0] if names else "")
        if container not in names:
            raise PermanentError(
                f'pod {pod.metadata.name} has no container "{container}"; it has {", ".join(names)}', reason="container"
            )
        return await cluster.log(
            Thing("pod", self.namespace, pod.metadata.name),
            container=container,
            tail=self.tail,
            since=int(self.since or 0),
            limit=self.max_bytes,
            previous=self.previous,
        )
