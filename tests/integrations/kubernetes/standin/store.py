"""The objects of the stand-in: versions that move with every change, generations that move with every new wish."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from typing import Any

from tests.integrations.kubernetes.standin.controllers import converge, instant

Key = tuple[str, str, str]
"""Resource, namespace and name."""
GENERATIONS = {"deployments", "statefulsets", "replicasets", "cronjobs", "jobs", "scaledobjects"}
"""Kinds whose metadata.generation the API server counts."""
_ACTED_ON = {"deployments", "statefulsets", "jobs", "horizontalpodautoscalers", "scaledobjects"}


class Store:
    """All objects, and when a controller acts on which."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.settle = 0.0
        self.now: Callable[[], float] = time.time
        """The cluster's clock, Unix seconds; the time stamps of objects are of it."""
        self.due: dict[Key, float] = {}
        self.rolled_at: dict[str, float] = {}
        self.pods_made = 0
        self._version = 1000
        self._uid = 0

    def next_version(self) -> str:
        """A resourceVersion that was not there before."""
        self._version += 1
        return str(self._version)

    @property
    def version(self) -> str:
        """The resourceVersion of a list."""
        return str(self._version)

    def insert(self, resource: str, found: dict[str, Any]) -> dict[str, Any]:
        """A new object, with what the API server adds to every one."""
        self._uid += 1
        metadata = found["metadata"]
        metadata.setdefault("annotations", {})
        metadata |= {
            "uid": f"uid-{self._uid}-{resource}",
            "creationTimestamp": instant(self.now()),
            "resourceVersion": self.next_version(),
        }
        if resource in GENERATIONS:
            metadata["generation"] = 1
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        self.objects[key] = found
        self.touch(key)
        return found

    def touch(self, key: Key) -> None:
        """The wish has changed: its controller acts after ``settle`` seconds."""
        if key[0] in _ACTED_ON:
            self.due[key] = asyncio.get_running_loop().time() + self.settle

    def write(self, key: Key, new: dict[str, Any]) -> dict[str, Any]:
        """Put ``new`` in the place of the object; a write that changes nothing keeps the version."""
        old = self.objects[key]
        new["metadata"] = {**new["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]}
        if new == old:
            return old
        new["metadata"]["resourceVersion"] = self.next_version()
        if new.get("spec") != old.get("spec"):
            if key[0] in GENERATIONS:
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
            self.touch(key)
        self.objects[key] = new
        return new

    def scale_to(self, key: Key, replicas: int) -> None:
        """Somebody sets the replicas."""
        new = copy.deepcopy(self.objects[key])
        new["spec"]["replicas"] = replicas
        self.write(key, new)

    def act(self) -> None:
        """Let the controllers do what is due by now."""
        for _ in range(4):  # What one controller does can make work for another one.
            now = asyncio.get_running_loop().time()
            due = [key for key, at in self.due.items() if at <= now]
            if not due:
                return
            for key in due:
                del self.due[key]
                converge(self, key)
