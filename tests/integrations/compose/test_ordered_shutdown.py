"""Tests of the action compose.ordered_shutdown, with a real Docker Engine: the shutdown of the ERC-8004 backend."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change, Effect
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose._container import Unfinished
from remediator.integrations.compose.ordered_shutdown import OrderedShutdown
from remediator.integrations.compose.ordered_startup import OrderedStartup
from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import acting

SERVICES: dict[str, dict[str, Any]] = {name: {} for name in ("api", "events", "workers", "redis")}
ORDER: dict[str, Any] = {
    "checks": {
        # LLEN action_jobs, and the metric of the workers, in miniature: files that the test writes.
        "queue-empty": {"service": "redis", "exec": ["cat", "/data/queue"], "equals": "0"},
        "nothing-in-flight": {"service": "workers", "exec": ["cat", "/data/in-flight"], "equals": "0"},
    },
    "shutdown": [
        {"name": "door", "services": ["api"]},
        {"name": "drain", "services": ["events"], "wait": ["queue-empty", "nothing-in-flight"], "within": "20s"},
        {"name": "rest", "services": ["workers"]},
        {"name": "stores", "services": ["redis"]},
    ],
}
ACTION = OrderedShutdown(grace=1)


async def _say(project: Project, target: ComposeTarget, *, queue: str, in_flight: str) -> None:
    """What the queue and the workers' metric say from now on."""
    it = await target.engine()
    for each in await it.containers():
        for service, file, text in (("redis", "queue", queue), ("workers", "in-flight", in_flight)):
            if each.service == service:
                assert (await it.ask(each, ["sh", "-c", f"echo {text} > /data/{file}"], 10))[0] == 0


def _running(project: Project) -> set[str]:
    return {name.removesuffix("_1") for name, state in project.states().items() if state == "running"}


async def _until(project: Project, running: set[str]) -> None:
    for _ in range(400):
        if _running(project) == running:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{_running(project)} run and not {running}")


async def test_trap_14_it_drains_until_the_queue_is_empty_and_nothing_is_in_flight() -> None:
    """An empty queue is not enough while a worker holds a job, nor the other way round: both, at one look."""
    with engine().project(SERVICES) as project:
        project.up()
        target = project.target(**ORDER)
        await _say(project, target, queue="3", in_flight="0")
        change = Change.from_json((await ACTION.diff(target, acting())).as_json())
        task = asyncio.ensure_future(ACTION.apply(target, change, acting()))
        await _until(project, {"workers", "redis"})
        await _say(project, target, queue="0", in_flight="2")
        await asyncio.sleep(1.2)
        assert _running(project) == {"workers", "redis"}, "the popped jobs are still being worked on"
        assert not task.done()
        await _say(project, target, queue="0", in_flight="0")
        outcome = await task
        assert outcome.data["stopped"] == ["api", "events", "workers", "redis"]
        await ACTION.verify(target, change, acting())
        assert (await ACTION.diff(target, acting())).empty
        stops = [project.inspect(name)["State"]["FinishedAt"] for name in ("api", "events", "workers", "redis")]
        assert stops == sorted(stops), "in this order"
        await target.close()


async def test_a_crash_in_the_middle_goes_on_where_it_was() -> None:
    """Killed while it waits, and begun again by another process: what is stopped stays as it is, the rest follows."""
    with engine().project(SERVICES) as project:
        project.up()
        target = project.target(**ORDER)
        await _say(project, target, queue="3", in_flight="0")
        first = Change.from_json((await ACTION.diff(target, acting())).as_json())
        task = asyncio.ensure_future(ACTION.apply(target, first, acting()))
        await _until(project, {"workers", "redis"})
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ACTION.effect is Effect.IDEMPOTENT
        ended = [project.inspect(name)["State"]["FinishedAt"] for name in ("api", "events")]
        other = project.target(**ORDER)
        again = Change.from_json((await ACTION.diff(other, acting())).as_json())
        assert again.before["running"] == ["workers", "redis"]
        task = asyncio.ensure_future(ACTION.apply(other, again, acting()))
        await asyncio.sleep(1.2)
        assert _running(project) == {"workers", "redis"}, "it still waits for the queue, although its stage is stopped"
        await _say(project, target, queue="0", in_flight="0")
        assert (await task).data["stopped"] == ["workers", "redis"]
        assert [project.inspect(name)["State"]["FinishedAt"] for name in ("api", "events")] == ended
        await target.close()
        await other.close()


async def test_a_wait_in_vain_ends_it_half_way_and_says_where() -> None:
    """The queue does not drain: nothing further is stopped, and the outcome is neither done nor not done."""
    with engine().project(SERVICES) as project:
        project.up()
        order = {**ORDER, "shutdown": [dict(stage) for stage in ORDER["shutdown"]]}
        order["shutdown"][1]["within"] = "1s"
        target = project.target(**order)
        await _say(project, target, queue="3", in_flight="0")
        change = await ACTION.diff(target, acting())
        with pytest.raises(Unfinished, match=r'drain waited 1 s in vain: queue-empty is "3".*; done so far: api, ev'):
            await ACTION.apply(target, change, acting())
        assert _running(project) == {"workers", "redis"}
        with pytest.raises(TemporaryError, match="workers, redis still runs"):
            await ACTION.verify(target, change, acting())
        await target.close()


async def test_what_cannot_be_told_does_not_hold() -> None:
    """A check that fails, hangs, or has nobody to ask is no yes."""
    with engine().project({"a": {}, "b": {}}) as project:
        project.up()
        for exec_, says in (
            (["cat", "/nowhere"], "exited with 1"),
            (["no-such-program"], "exited with"),
            (["sleep", "60"], "gave no answer"),
        ):
            target = project.target(
                checks={"check": {"service": "b", "exec": exec_, "timeout": "300ms"}},
                shutdown=[
                    {"name": "first", "services": ["a"], "wait": ["check"], "within": "800ms"},
                    {"name": "last", "services": ["b"]},
                ],
            )
            with pytest.raises(Unfinished, match=says):
                await ACTION.apply(target, await ACTION.diff(target, acting()), acting())
            await target.close()
        target = project.target(
            checks={"check": {"service": "a", "exec": ["cat"]}},
            shutdown=[
                {"name": "first", "services": ["a"], "wait": ["check"], "within": "600ms"},
                {"name": "last", "services": ["b"]},
            ],
        )
        with pytest.raises(Unfinished, match="a does not run"):
            await ACTION.apply(target, await ACTION.diff(target, acting()), acting())
        assert _running(project) == {"b"}
        await target.close()


async def test_the_inverse_starts_what_ran_in_the_order_of_starting() -> None:
    """Only the services that ran; without a shutdown order of its own the startup is gone through backwards."""
    with engine().project({"db": {}, "api": {}, "task": {}}) as project:
        project.create("db")
        project.create("api")
        project.create("task", start=False)
        startup = [{"name": "stores", "services": ["db"]}, {"name": "apps", "services": ["api", "task"]}]
        target = project.target(startup=startup)
        change = await ACTION.diff(target, acting())
        assert [stage["name"] for stage in change.after["order"]] == ["apps", "stores"]
        await ACTION.apply(target, change, acting())
        inverse = ACTION.inverse(change)
        assert inverse == OrderedStartup(services=["api", "db"])
        await inverse.apply(target, await inverse.diff(target, acting()), acting())
        assert _running(project) == {"db", "api"}
        assert ACTION.inverse(Change(summary="", before={"running": []}, after={})) is None
        with pytest.raises(PermanentError, match='no stage "none"'):
            await OrderedShutdown(stages=["none"]).diff(target, acting())
        with pytest.raises(PermanentError, match="write startup"):
            await ACTION.diff(project.target(), acting())
        only = await OrderedShutdown(stages=["apps"]).diff(target, acting())
        assert only.before["running"] == ["api"]
        await target.close()


def test_trap_22_it_always_asks_a_person() -> None:
    """The whole system stops: `*` in the permissions and a yes in every mode."""
    target = ComposeTarget(project="p", permit={"actions": ["compose.*"], "services": ["a*", "all"]})
    assert ACTION.needs_approval(target)
    assert target.refusal("compose.ordered_shutdown", ACTION.needs())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"startup": [{"name": "a", "services": ["x"], "wait": ["none"]}]}, "not among the checks"),
        ({"startup": [{"name": "a", "services": ["x"]}, {"name": "a", "services": ["y"]}]}, "twice"),
        ({"shutdown": [{"name": "a", "services": ["x"]}, {"name": "b", "services": ["x"]}]}, "twice"),
        ({"startup": [{"name": "a", "services": []}]}, "at least 1"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    """Mistakes in the settings are found when they are read."""
    with pytest.raises(ValidationError, match=says):
        ComposeTarget.model_validate({"project": "p", **wrong})
