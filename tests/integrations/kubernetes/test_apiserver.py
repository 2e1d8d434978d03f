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


async def test_strangers_are_refused(api: ApiServer, tmp_path: Path) -> None:
    """Without the token every call is 401, and the kubeconfig holds the token of its user."""
    async with aiohttp.ClientSession() as session, session.get(api.url + SCALE) as response:
        assert response.status == 401
    assert TOKEN in Path(api.kubeconfig(tmp_path)).read_text()
