"""Who may do what: rules of Roles, and the two reviews by which an identity asks about itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_ALL = frozenset({"*"})


@dataclass(frozen=True)
class Grant:
    """One rule of a Role: ``Grant({"get"}, {"deployments/scale"}, {"minting-worker"})``; no names means all."""

    verbs: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str] = frozenset()
    groups: frozenset[str] = _ALL
    namespace: str = "*"
    """``"*"`` for a ClusterRoleBinding: everywhere."""

    def allows(self, verb: str, resource: str, name: str, group: str = "*", namespace: str = "*") -> bool:
        """Does this rule allow the call?"""
        return (
            (verb in self.verbs or "*" in self.verbs)
            and (resource in self.resources or "*" in self.resources)
            and (not self.names or name in self.names)
            and (group in self.groups or "*" in self.groups or group == "*")
            and (self.namespace == "*" or self.namespace == namespace)
        )


def grants_of(documents: Iterable[Mapping[str, Any] | None]) -> list[Grant]:
    """What Roles and ClusterRoles allow to whoever is bound to them; other documents are passed over."""
    found = []
    for document in documents:
        if document is None or document["kind"] not in ("Role", "ClusterRole"):
            continue
        namespace = document["metadata"]["namespace"] if document["kind"] == "Role" else "*"
        found += [
            Grant(
                frozenset(rule["verbs"]),
                frozenset(rule["resources"]),
                frozenset(rule.get("resourceNames", ())),
                frozenset(rule["apiGroups"]),
                namespace,
            )
            for rule in document["rules"]
        ]
    return found


def access_review(grants: list[Grant] | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a SelfSubjectAccessReview."""
    asked = spec["resourceAttributes"]
    resource = "/".join(part for part in (asked["resource"], asked.get("subresource", "")) if part)
    allowed = grants is None or any(
        grant.allows(
            asked["verb"], resource, asked.get("name", ""), asked.get("group", ""), asked.get("namespace", "")
        )
        for grant in grants
    )
    return {"allowed": allowed, "reason": "" if allowed else "no rule matches"}


def rules_review(grants: list[Grant] | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a SelfSubjectRulesReview, with the two rules that every identity has."""
    own = [
        {
            "verbs": ["create"],
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }
    ]
    everything = [Grant(_ALL, _ALL)]
    found = [
        {
            "verbs": sorted(grant.verbs),
            "apiGroups": sorted(grant.groups),
            "resources": sorted(grant.resources),
            **({"resourceNames": sorted(grant.names)} if grant.names else {}),
        }
        for grant in (everything if grants is None else grants)
        if grant.namespace in ("*", spec["namespace"])
    ]
    return {
        "resourceRules": own + found,
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/version"]}],
        "incomplete": False,
    }
