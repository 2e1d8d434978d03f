"""Fixtures: an API server and a target on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, api_server
from tests.integrations.support import HandClock


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    """An API server with one deployment and one stateful set."""
    async with api_server() as it:
        it.add("deployments", "minting-worker", 3)
        it.add("statefulsets", "queue", 3)
        yield it


@pytest.fixture
async def target(api: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesTarget]:
    """A target that reaches it as the current context does."""
    it = KubernetesTarget.model_validate({"kubeconfig": api.kubeconfig(tmp_path), "request_timeout": "1s"})
    yield it
    await it.close()


@pytest.fixture
def clock(api: ApiServer) -> HandClock:
    """The clock of the cluster and of the run, which stands still until the test moves it."""
    it = HandClock()
    api.now = it.now
    return it
