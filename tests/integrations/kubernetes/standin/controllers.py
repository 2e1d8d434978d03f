"""What the controllers and kubelets of a cluster would have done: rollouts with revisions, pods, autoscaling, jobs.

The deployment controller follows Kubernetes' own (pkg/controller/deployment): one ReplicaSet for each template, a
revision that goes up whenever another template becomes the current one, and a Progressing condition that ends as
NewReplicaSetAvailable or, past the deadline, as ProgressDeadlineExceeded. Containers whose image contains ``never``
never become ready; jobs whose image contains ``fail`` fail.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integrations.kubernetes.standin.store import Key, Store

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
HASH = "pod-template-hash"


def instant(at: float) -> str:
    """RFC 3339 in whole seconds, as the API writes times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def template_hash(template: Any) -> str:
    """A name for a pod template."""
    return hashlib.sha256(json.dumps(_bare(template), sort_keys=True).encode()).hexdigest()[:10]


def _bare(template: Any) -> Any:
    found = copy.deepcopy(template)
    found.get("metadata", {}).get("labels", {}).pop(HASH, None)
    return found


def never_ready(template: Any) -> bool:
    """True if the pods of the template do not become ready."""
    return any("never" in each["image"] for each in template["spec"]["containers"])


def owned(store: Store, resource: str, owner: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of ``resource`` that ``owner`` controls."""
    uid = owner["metadata"]["uid"]
    return [
        each
        for (kind, _, _), each in list(store.objects.items())
        if kind == resource and any(o["uid"] == uid for o in each["metadata"].get("ownerReferences", ()))
    ]


def controlled_by(owner: dict[str, Any]) -> list[dict[str, Any]]:
    """The owner references of something that ``owner`` controls."""
    name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    return [
        {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "uid": uid, "controller": True}
    ]


def converge(store: Store, key: Key) -> None:
    """What the controller of this object would have done by now."""
    act = {
        "deployments": _deployment,
        "statefulsets": _statefulset,
        "jobs": _job,
        "horizontalpodautoscalers": _autoscaler,
        "scaledobjects": _scaled_object,
    }.get(key[0])
    if act is not None and key in store.objects:
        act(store, store.objects[key])
        store.objects[key]["metadata"]["resourceVersion"] = store.next_version()


def _condition(store: Store, found: dict[str, Any], status: str, reason: str) -> dict[str, str]:
    now = instant(store.now())
    old = next((c for c in found["status"].get("conditions", ()) if c["type"] == "Progressing"), None)
    if old is not None and (old["status"], old["reason"]) == (status, reason):
        return dict(old)
    return {
        "type": "Progressing",
        "status": status,
        "reason": reason,
        "message": f"{found['metadata']['name']}: {reason}",
        "lastUpdateTime": now,
        "lastTransitionTime": now if old is None or old["status"] != status else old["lastTransitionTime"],
    }


def _deployment(store: Store, found: dict[str, Any]) -> None:
    n, spec, metadata = found["spec"]["replicas"], found["spec"], found["metadata"]
    observed = {"observedGeneration": metadata["generation"]}
    sets = owned(store, "replicasets", found)
    name = f"{metadata['name']}-{template_hash(spec['template'])}"
    if spec.get("paused"):
        current = next((each for each in sets if each["spec"]["replicas"]), None)
        counts = {"replicas": n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n}
        if current is not None and current["metadata"]["name"] != name:
            counts.pop("updatedReplicas")
        found["status"] = observed | {k: v for k, v in counts.items() if v}
        found["status"]["conditions"] = [_condition(store, found, "Unknown", "DeploymentPaused")]
        return
    new, rolled = _replica_set(store, found, sets, name)
    if rolled:
        found["status"].pop("conditions", None)
        store.rolled_at[metadata["uid"]] = asyncio.get_running_loop().time()
    if not never_ready(spec["template"]) or n == 0:
        for each in sets:
            if each is not new:
                _scale_set(store, each, 0)
        _scale_set(store, new, n)
        counts = {"replicas": n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n}
        found["status"] = observed | {k: v for k, v in counts.items() if v} | {
            "conditions": [_condition(store, found, "True", "NewReplicaSetAvailable")]
        }
        return
    _stuck(store, found, new, n, rolled)


def _stuck(store: Store, found: dict[str, Any], new: dict[str, Any], n: int, rolled: bool) -> None:
    """A rollout whose new pods do not become ready: the old ones stay."""
    surge = max(1, -(-n // 4))
    _scale_set(store, new, surge)
    loop = asyncio.get_running_loop()
    begun = store.rolled_at.setdefault(found["metadata"]["uid"], loop.time())
    late = loop.time() - begun >= found["spec"].get("progressDeadlineSeconds", 600)
    reason = "ProgressDeadlineExceeded" if late else "ReplicaSetUpdated"
    found["status"] = {
        "observedGeneration": found["metadata"]["generation"],
        "replicas": n + surge,
        "updatedReplicas": surge,
        "readyReplicas": n,
        "availableReplicas": n,
        "unavailableReplicas": surge,
        "conditions": [_condition(store, found, "False" if late else "True", reason)],
    }
    if not late:
        key = ("deployments", found["metadata"]["namespace"], found["metadata"]["name"])
        store.due[key] = begun + found["spec"].get("progressDeadlineSeconds", 600)


def _replica_set(
    store: Store, found: dict[str, Any], sets: list[dict[str, Any]], name: str
) -> tuple[dict[str, Any], bool]:
    """The ReplicaSet of the current template, with its revision; and whether it has just become the current one."""
    metadata = found["metadata"]
    last = max((int(each["metadata"]["annotations"][REVISION]) for each in sets), default=0)
    new = next((each for each in sets if each["metadata"]["name"] == name), None)
    if new is None:
        new = _new_set(store, found, name)
        new["metadata"]["annotations"][REVISION] = str(max(last + 1, int(metadata["annotations"].get(REVISION, 1))))
    elif int(new["metadata"]["annotations"][REVISION]) < last:
        notes = new["metadata"]["annotations"]
        notes[HISTORY] = ",".join(part for part in (notes.get(HISTORY, ""), notes[REVISION]) if part)
        notes[REVISION] = str(last + 1)
    else:
        return new, False
    metadata["annotations"][REVISION] = new["metadata"]["annotations"][REVISION]
    return new, True


def _new_set(store: Store, found: dict[str, Any], name: str) -> dict[str, Any]:
    metadata = found["metadata"]
    template = copy.deepcopy(found["spec"]["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH] = template_hash(template)
    cause = metadata["annotations"].get("kubernetes.io/change-cause")
    made = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": {"kubernetes.io/change-cause": cause} if cause else {},
            "ownerReferences": controlled_by(found),
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": template["metadata"]["labels"]}, "template": template},
        "status": {},
    }
    return store.insert("replicasets", made)


def _scale_set(store: Store, found: dict[str, Any], n: int) -> None:
    found["spec"]["replicas"] = n
    found["status"] = {"replicas": n, "readyReplicas": 0 if never_ready(found["spec"]["template"]) else n}
    pods = owned(store, "pods", found)
    for each in pods[n:]:
        del store.objects["pods", each["metadata"]["namespace"], each["metadata"]["name"]]
    for _ in range(n - len(pods)):
        store.pods_made += 1
        _pod(store, found, f"{found['metadata']['name']}-{store.pods_made:05x}")


def _pod(store: Store, owner: dict[str, Any], name: str) -> None:
    template = owner["spec"]["template"]
    ready = not never_ready(template)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    running = {"running": {"startedAt": instant(store.now())}}
    statuses = [
        {
            "name": each["name"],
            "image": each["image"],
            "ready": ready,
            "restartCount": 0,
            "state": running if ready else waiting,
        }
        for each in template["spec"]["containers"]
    ]
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": controlled_by(owner),
        },
        "spec": {"nodeName": "node-1", "containers": copy.deepcopy(template["spec"]["containers"])},
        "status": {
            "phase": "Running" if ready else "Pending",
            "startTime": instant(store.now()),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": statuses,
        },
    }
    store.insert("pods", made)


def _statefulset(store: Store, found: dict[str, Any]) -> None:
    n, metadata = found["spec"]["replicas"], found["metadata"]
    revision = f"{metadata['name']}-{template_hash(found['spec']['template'])}"
    old = found["status"].get("currentRevision", revision)
    namespace = metadata["namespace"]
    kept = {key[2]: key for key in store.objects if key[0] == "pods" and key[1] == namespace}
    for each in owned(store, "pods", found):
        index = int(each["metadata"]["name"].rpartition("-")[2])
        if index >= n or old != revision:
            del store.objects[kept.pop(each["metadata"]["name"])]
    for index in range(n):
        if f"{metadata['name']}-{index}" not in kept:
            _pod(store, found, f"{metadata['name']}-{index}")
    counts = {"replicas": n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n}
    if never_ready(found["spec"]["template"]):
        counts |= {"updatedReplicas": 1, "readyReplicas": n - 1, "availableReplicas": n - 1}
        revisions = {"currentRevision": old, "updateRevision": revision}
    else:
        revisions = {"currentRevision": revision, "updateRevision": revision}
    shown = {name: count for name, count in counts.items() if count}
    found["status"] = {"observedGeneration": metadata["generation"], **shown, **revisions}


def _job(store: Store, found: dict[str, Any]) -> None:
    failed = any("fail" in each["image"] for each in found["spec"]["template"]["spec"]["containers"])
    kind, count = ("Failed", "failed") if failed else ("Complete", "succeeded")
    found["status"] = {
        count: 1,
        "conditions": [
            {"type": kind, "status": "True", "reason": "BackoffLimitExceeded" if failed else "", "message": ""}
        ],
    }


def _autoscaler(store: Store, found: dict[str, Any]) -> None:
    reference = found["spec"]["scaleTargetRef"]
    key = (f"{reference['kind'].lower()}s", found["metadata"]["namespace"], reference["name"])
    if key not in store.objects or not store.objects[key]["spec"]["replicas"]:
        return
    now = store.objects[key]["spec"]["replicas"]
    wanted = min(max(now, found["spec"].get("minReplicas", 1)), found["spec"]["maxReplicas"])
    found["status"] |= {"currentReplicas": now, "desiredReplicas": wanted}
    store.scale_to(key, wanted)


def _scaled_object(store: Store, found: dict[str, Any]) -> None:
    """KEDA keeps a HorizontalPodAutoscaler of its own, with the limits of the ScaledObject."""
    key = ("horizontalpodautoscalers", found["metadata"]["namespace"], f"keda-hpa-{found['metadata']['name']}")
    hpa = store.objects[key]
    hpa["spec"]["minReplicas"] = max(1, found["spec"].get("minReplicaCount", 0))
    hpa["spec"]["maxReplicas"] = found["spec"].get("maxReplicaCount", 100)
    _autoscaler(store, hpa)
