"""Tests of the action compose.scale, with a real Docker Engine and the real Compose."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose.scale import Scale, _check_scalable
from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.compose.engine import engine
from tests.integrations.support import acting


async def _diff(target: ComposeTarget, action: Scale) -> Change:
    return Change.from_json((await action.diff(target, acting())).as_json())


async def test_more_containers_and_nothing_else_is_touched() -> None:
    """1 → 3: the first container and the other service keep their lives, and a second time it stays 3."""
    with engine().project({"worker": {"depends_on": ["db"]}, "db": {}}) as project:
        # Made with another configuration than the files say now: a plain `up` would recreate both.
        first, db = project.create("worker"), project.create("db")
        target, action = project.target(), Scale(service="worker", by=2, max=4)
        change = await _diff(target, action)
        assert (change.before, change.after) == ({"containers": 1}, {"containers": 3})
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
        await action.apply(target, change, acting())
        assert len(project.containers("worker")) == 3
        assert project.inspect("worker")["Id"] == first
        assert project.inspect("db")["Id"] == db
        with pytest.raises(TemporaryError, match="3 containers by now"):
            other = Change(summary="", before={"containers": 1}, after={"containers": 2})
            await action.apply(target, other, acting())
        inverse = Scale.model_validate(action.inverse(change).model_dump(mode="json", exclude_unset=True))
        await inverse.apply(target, await _diff(target, inverse), acting())
        assert list(project.states()) == ["db_1", "worker_1"]
        assert (await _diff(target, inverse)).empty
        project.create("worker", 2)
        with pytest.raises(PermanentError, match="not the 3") as caught:
            await _diff(target, inverse)
        assert caught.value.reason == "changed"
        await target.close()


async def test_a_service_that_can_have_only_one_container_is_refused() -> None:
    """A fixed name or a fixed port would make the second container fail half way: refused before anything happens."""
    services: dict[str, dict[str, Any]] = {
        "named": {"container_name": "only-one"},
        "port": {"ports": ["8080:80"], "network_mode": "bridge"},
    }
    with engine().project(services) as project:
        target = project.target()
        for service, reason in (("named", "container_name"), ("port", "port")):
            project.create(service)
            with pytest.raises(PermanentError, match="only one") as caught:
                await _diff(target, Scale(service=service, at_least=2, max=2))
            assert caught.value.reason == reason
            assert (await _diff(target, Scale(service=service, at_least=1, max=2))).empty
        await target.close()


@pytest.mark.parametrize(
    ("port", "fixed"),
    [
        ("8080:80", True),
        ("127.0.0.1:8080:80/tcp", True),
        ({"published": 8080, "target": 80}, True),
        ({"published": "8080", "target": 80}, True),
        ("80", False),
        ("8080-8090:80", False),
        ("127.0.0.1::80", False),
        ({"target": 80}, False),
        ({"published": "8080-8090", "target": 80}, False),
    ],
)
def test_every_way_to_write_a_port(port: Any, fixed: bool) -> None:
    """A single published port is fixed; a range, or none, leaves room for more containers."""
    if fixed:
        with pytest.raises(PermanentError, match="fixed port 8080"):
            _check_scalable("api", {"ports": [port]})
    else:
        _check_scalable("api", {"ports": [port]})


async def test_never_downwards_by_accident_and_never_what_is_stopped() -> None:
    """at_least leaves more alone, exact lowers only when told, and a stopped service stays so."""
    with engine().project() as project:
        ids = [project.create("worker", number) for number in (1, 2, 3)]
        target = project.target()
        assert (await _diff(target, Scale(service="worker", at_least=2, max=4))).empty
        with pytest.raises(PermanentError, match="would lower it"):
            await _diff(target, Scale(service="worker", exact=2, max=4))
        for id in ids:
            engine().request("POST", f"/containers/{id}/stop?t=0")
        with pytest.raises(PermanentError, match="on purpose"):
            await _diff(target, Scale(service="worker", at_least=4, max=4))
        await target.close()
