"""One right that Kubernetes must give to Remediator, in RBAC's words; every action and probe says which it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from remediator.integrations.kubernetes._thing import Kind, Thing, group_of

ANY = ""
"""In place of a name: RBAC cannot narrow this to names (list, create), or the rule does not write the name."""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """``verb`` on ``resource`` (with its subresource, ``deployments/scale``) of ``group``, for one name or for all."""

    namespace: str
    group: str
    resource: str
    name: str
    verb: str


class Granted(Protocol):
    """An action or probe that can say what it needs."""

    def grants(self) -> list[Grant]:
        """Every right it needs to look, act, verify and take back."""
        ...


def grants_on(thing: Thing, *verbs: str, sub: str = "") -> list[Grant]:
    """Rights on one object, or on one of its subresources."""
    resource = f"{thing.resource}/{sub}" if sub else thing.resource
    return [Grant(thing.namespace, group_of(thing.kind), resource, thing.name, verb) for verb in verbs]


def grants_in(kind: Kind, namespace: str, *verbs: str, sub: str = "") -> list[Grant]:
    """Rights on all objects of a kind in a namespace (or, with ``""``, in the cluster)."""
    return grants_on(Thing(kind, namespace, ANY), *verbs, sub=sub)
