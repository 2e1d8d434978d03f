"""Tests that keep the stand-in of the API server honest in what the other tests build on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from tests.integrations.kubernetes.apiserver import TOKEN, ApiServer

SCALE = "/apis/apps/v1/namespaces/production/deployments/minting-worker/scale"


async def _send(api: ApiServer, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            api.url + path,
            json=body,
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": kind},
        ) as response,
    ):
        return response.status, await response.json()


async def test_a_dry_run_changes_nothing(api: ApiServer) -> None:
    """dryRun=All answers as if it had happened and leaves object and version alone; other values are invalid."""
    _, before = await _send(api, "GET", SCALE)
    status, answer = await _send(
        api, "PATCH", SCALE + "?dryRun=All", {"spec": {"replicas": 9}}, "application/merge-patch+json"
    )
    assert (status, answer["spec"]["replicas"]) == (200, 9)
    assert (await _send(api, "GET", SCALE))[1] == before
    status, answer = await _send(api, "PATCH", SCALE + "?dryRun=some", {}, "application/merge-patch+json")
    assert (status, answer["kind"]) == (422, "Status")


async def test_versions_move_only_with_changes(api: ApiServer) -> None:
    """A write that changes nothing keeps the version; one that does moves it and outdates the old one."""
    _, before = await _send(api, "GET", SCALE)
    version = before["metadata"]["resourceVersion"]
    _, same = await _send(api, "PUT", SCALE, before)
    assert same["metadata"]["resourceVersion"] == version
    before["spec"]["replicas"] = 4
    _, after = await _send(api, "PUT", SCALE, before)
    assert after["metadata"]["resourceVersion"] != version
    status, refused = await _send(api, "PUT", SCALE, before)
    assert (status, refused["reason"]) == (409, "Conflict")


async def test_invalid_writes_are_refused(api: ApiServer) -> None:
    """Negative replicas are 422, text is 400, an unknown patch type is 415, and zero is left out of the answer."""
    merge = "application/merge-patch+json"
    assert (await _send(api, "PATCH", SCALE, {"spec": {"replicas": -1}}, merge))[0] == 422
    assert (await _send(api, "PATCH", SCALE, {"spec": {"replicas": "x"}}, merge))[0] == 400
    assert (await _send(api, "PATCH", SCALE, {}, "application/json"))[0] == 415
    assert (await _send(api, "PATCH", SCALE, {"spec": {"replicas": 0}}, merge))[1]["spec"] == {}


DEPLOYMENT = "/apis/apps/v1/namespaces/production/deployments/minting-worker"
STRATEGIC, JSON = "application/strategic-merge-patch+json", "application/json-patch+json"


async def test_strategic_patches_merge_lists_by_their_keys(api: ApiServer) -> None:
    """A container is found by its name and a variable by its own; $patch: delete takes one away; the rest stays; the
    generation moves with the wish only."""

    def patch(*env: dict[str, str]) -> Any:
        return {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": list(env)}]}}}}

    both = patch({"name": "A", "value": "1"}, {"name": "B", "value": "2"})
    _, found = await _send(api, "PATCH", DEPLOYMENT, both, STRATEGIC)
    generation = found["metadata"]["generation"]
    _, found = await _send(
        api, "PATCH", DEPLOYMENT, patch({"name": "A", "value": "3"}, {"name": "B", "$patch": "delete"}), STRATEGIC
    )
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container == {"name": "main", "image": "minting:1.2", "resources": {}, "env": [{"name": "A", "value": "3"}]}
    assert found["metadata"]["generation"] == generation + 1
    _, found = await _send(api, "PATCH", DEPLOYMENT, {"metadata": {"annotations": {"x": "y"}}}, STRATEGIC)
    assert found["metadata"]["generation"] == generation + 1
    no_key = {"spec": {"template": {"spec": {"containers": [{"image": "x:1"}]}}}}
    assert (await _send(api, "PATCH", DEPLOYMENT, no_key, STRATEGIC))[0] == 422


async def test_json_patches_test_and_fail_whole(api: ApiServer) -> None:
    """A test that fails, a path that is missing and a stale version change nothing at all."""
    add = {"op": "add", "path": "/metadata/annotations/a~1b", "value": "c"}
    _, found = await _send(api, "PATCH", DEPLOYMENT, [add], JSON)
    assert found["metadata"]["annotations"]["a/b"] == "c"
    before = found["metadata"]["resourceVersion"]
    replicas = {"op": "replace", "path": "/spec/replicas", "value": 9}
    for bad, code in (
        ({"op": "test", "path": "/spec/replicas", "value": 7}, 422),
        ({"op": "remove", "path": "/metadata/annotations/none"}, 422),
        ({"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}, 409),
    ):
        assert (await _send(api, "PATCH", DEPLOYMENT, [replicas, bad], JSON))[0] == code
    assert (await _send(api, "GET", DEPLOYMENT))[1]["metadata"]["resourceVersion"] == before


async def test_rollouts_make_revisions(api: ApiServer) -> None:
    """Another template is a new revision, an old one again gets a new number and its history, scaling is neither."""

    def revisions() -> list[tuple[str, str, int]]:
        api.act()
        sets = [each for key, each in api.objects.items() if key[0] == "replicasets"]
        return sorted(
            (
                each["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
                each["metadata"]["annotations"].get("deployment.kubernetes.io/revision-history", ""),
                each["spec"]["replicas"],
            )
            for each in sets
        )

    assert revisions() == [("7", "", 3)]
    first = api.get("deployments", "minting-worker")["spec"]["template"]
    api.roll("minting-worker", "minting:1.3")
    api.set_replicas("deployments", "minting-worker", 4)
    assert revisions() == [("7", "", 0), ("8", "", 4)]
    api.change("deployments", "minting-worker", template=first)
    assert revisions() == [("8", "", 0), ("9", "7", 4)]


async def test_what_is_not_served_or_already_there(api: ApiServer) -> None:
    """Unknown resources are 404, a second object of one name is 409, and a precondition that fails is 409."""
    assert (await _send(api, "GET", "/apis/apps/v1/namespaces/production/daemonsets/x"))[0] == 404
    assert (await _send(api, "GET", DEPLOYMENT + "/status"))[0] == 404
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": {"spec": {
        "containers": [{"name": "main", "image": "x:1"}]}}}}  # fmt: skip
    assert (await _send(api, "POST", "/apis/batch/v1/namespaces/production/jobs", job))[0] == 201
    status, answer = await _send(api, "POST", "/apis/batch/v1/namespaces/production/jobs", job)
    assert (status, answer["reason"]) == (409, "AlreadyExists")
    pod = "/api/v1/namespaces/production/pods/queue-0"
    assert (await _send(api, "DELETE", pod, {"preconditions": {"uid": "another"}}))[0] == 409


async def test_strangers_are_refused(api: ApiServer, tmp_path: Path) -> None:
    """Without the token every call is 401, and the kubeconfig holds the token of its user."""
    async with aiohttp.ClientSession() as session, session.get(api.url + SCALE) as response:
        assert response.status == 401
    assert TOKEN in Path(api.kubeconfig(tmp_path)).read_text()
