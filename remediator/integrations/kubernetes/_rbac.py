"""From rights to Roles, and back: the least that must be granted, and what an identity lacks or has too much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediator.integrations.kubernetes._grant import ANY, Grant

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

NAME = "remediator-rules"
"""The name of the Roles and their bindings."""
_OWN = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
"""What every identity may do: ask about itself."""


def least(grants: Iterable[Grant]) -> list[Grant]:
    """Each right once, and none for one name where all names are granted anyway."""
    every = set(grants)
    return sorted(grant for grant in every if grant.name == ANY or _for_all(grant) not in every)


def _for_all(grant: Grant) -> Grant:
    return Grant(grant.namespace, grant.group, grant.resource, ANY, grant.verb)


def role_documents(grants: Iterable[Grant], account: tuple[str, str]) -> list[dict[str, Any]]:
    """A Role and its RoleBinding for each namespace, a ClusterRole for nodes; ``account`` is (namespace, name)."""
    by_namespace: dict[str, list[Grant]] = {}
    for grant in least(grants):
        by_namespace.setdefault(grant.namespace, []).append(grant)
    documents = []
    for namespace, mine in sorted(by_namespace.items()):
        kind = "Role" if namespace else "ClusterRole"
        metadata = {"name": NAME, **({"namespace": namespace} if namespace else {})}
        api = "rbac.authorization.k8s.io"
        documents += [
            {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": _rules(mine)},
            {
                "apiVersion": f"{api}/v1",
                "kind": f"{kind}Binding",
                "metadata": dict(metadata),
                "roleRef": {"apiGroup": api, "kind": kind, "name": NAME},
                "subjects": [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}],
            },
        ]
    return documents


def _rules(grants: Sequence[Grant]) -> list[dict[str, Any]]:
    """The rules of a Role: same verbs on same names together."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for grant in grants:
        verbs.setdefault((grant.group, grant.resource, grant.name), []).append(grant.verb)
    names: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (group, resource, name), allowed in sorted(verbs.items()):
        names.setdefault((group, resource, tuple(sorted(allowed))), []).append(name)
    rules = []
    for (group, resource, allowed_), found in names.items():
        rule: dict[str, Any] = {"apiGroups": [group], "resources": [resource]}
        if ANY not in found:
            rule["resourceNames"] = sorted(found)
        rules.append({**rule, "verbs": list(allowed_)})
    return rules


@dataclass(frozen=True, slots=True)
class Finding:
    """What an identity lacks and what it has too much, as sentences; ``unsure``: what the API server could not tell."""

    missing: list[str]
    surplus: list[str]
    unsure: list[str]

    @property
    def exact(self) -> bool:
        """True if it has exactly enough."""
        return not self.missing and not self.surplus


async def review(cluster: Cluster, grants: Iterable[Grant]) -> Finding:
    """Ask the API server what the identity that asks may do. Raises TemporaryError, PermanentError."""
    needed = least(grants)
    missing = [_said(grant) for grant in needed if not await _allowed(cluster, grant)]
    surplus: set[str] = set()
    unsure: list[str] = []
    # What is granted in the whole cluster shows in every namespace; without one of ours, any will do.
    for namespace in sorted({grant.namespace for grant in needed} - {""}) or ["default"]:
        status = await cluster.review("SelfSubjectRulesReview", {"namespace": namespace})
        if status.get("incomplete"):
            unsure.append(
                f"the API server could not list all rights in {namespace}: {status.get('evaluationError', '')}"
            )
        mine = {(g.group, g.resource, g.name, g.verb) for g in needed if g.namespace in ("", namespace)}
        for rule in status.get("resourceRules") or []:
            surplus.update(_surplus(rule, mine, namespace))
    return Finding(missing, sorted(surplus), unsure)


async def _allowed(cluster: Cluster, grant: Grant) -> bool:
    resource, _, subresource = grant.resource.partition("/")
    attributes = {"verb": grant.verb, "group": grant.group, "resource": resource, "namespace": grant.namespace}
    if subresource:
        attributes["subresource"] = subresource
    if grant.name != ANY:
        attributes["name"] = grant.name
    status = await cluster.review("SelfSubjectAccessReview", {"resourceAttributes": attributes})
    return status.get("allowed") is True


def _surplus(rule: dict[str, Any], needed: set[tuple[str, str, str, str]], namespace: str) -> Iterable[str]:
    for group in rule.get("apiGroups") or []:
        for resource in rule.get("resources") or []:
            if resource in _OWN:
                continue
            for name in rule.get("resourceNames") or [ANY]:
                for verb in rule.get("verbs") or []:
                    if (group, resource, name, verb) not in needed and (group, resource, ANY, verb) not in needed:
                        yield _said(Grant(namespace, group, resource, name, verb))


def _said(grant: Grant) -> str:
    """``patch deployments/scale.apps "minting-worker" in namespace production``."""
    resource, _, subresource = grant.resource.partition("/")
    group = f".{grant.group}" if grant.group else ""
    what = f"{resource}{group}" + (f"/{subresource}" if subresource else "")
    named = f' "{grant.name}"' if grant.name != ANY else ""
    return f"{grant.verb} {what}{named} " + (f"in namespace {grant.namespace}" if grant.namespace else "in the cluster")
