"""Tests of the action compose.restart, with a real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.compose._container import Unfinished
from remediator.integrations.compose.restart import Restart
from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import acting

WORKER = Restart(service="worker", grace=1)


async def _diff(target: ComposeTarget, action: Restart = WORKER) -> Change:
    return Change.from_json((await action.diff(target, acting())).as_json())


async def test_running_containers_get_a_new_life_and_stopped_ones_stay() -> None:
    """Of three containers the two that run are restarted, the same containers as before; the stopped one is not."""
    with engine().project() as project:
        ids = [project.create("worker", number, start=number != 2) for number in (1, 2, 3)]
        before = [project.inspect("worker", number)["State"]["StartedAt"] for number in (1, 2, 3)]
        target = project.target()
        change = await _diff(target)
        assert change.after["restarted"] == [1, 3]
        await WORKER.apply(target, change, acting())
        await WORKER.verify(target, change, acting())
        after = [project.inspect("worker", number) for number in (1, 2, 3)]
        assert [each["Id"] for each in after] == ids
        assert [each["State"]["StartedAt"] != old for each, old in zip(after, before, strict=True)] == [
            True, False, True
        ]  # fmt: skip
        assert project.states()["worker_2"] == "created"
        await target.close()


async def test_what_is_stopped_or_not_there_is_refused() -> None:
    """Stopped is on purpose, and a service without a container is an error, not nothing to do."""
    with engine().project() as project:
        target = project.target()
        with pytest.raises(PermanentError, match="no container of a service") as caught:
            await _diff(target)
        assert caught.value.reason == "not_found"
        project.create("worker", start=False)
        with pytest.raises(PermanentError, match="on purpose"):
            await _diff(target)
        await target.close()


async def test_other_projects_are_out_of_reach() -> None:
    """A container of the same service in another project, and one of `compose run`, are never looked at."""
    with engine().project() as project, engine().project() as other:
        other.create("worker")
        target = project.target()
        with pytest.raises(PermanentError, match="no container of a service"):
            await _diff(target)
        await target.close()


async def test_after_a_crash_the_lives_tell() -> None:
    """All old is no, all new is yes; a part, or a container that is down, is for a person."""
    with engine().project() as project:
        first, second = project.create("worker"), project.create("worker", 2)
        target = project.target()
        change = await _diff(target)
        assert WORKER.effect is Effect.PROBE
        assert await WORKER.reconcile(target, change, acting()) is Happened.NO
        engine().request("POST", f"/containers/{first}/restart?t=0")
        assert await WORKER.reconcile(target, change, acting()) is Happened.UNKNOWN
        with pytest.raises(TemporaryError, match="started anew"):
            await WORKER.apply(target, change, acting())
        with pytest.raises(TemporaryError, match="not up again"):
            await WORKER.verify(target, change, acting())
        engine().request("POST", f"/containers/{second}/restart?t=0")
        assert await WORKER.reconcile(target, change, acting()) is Happened.YES
        engine().request("POST", f"/containers/{second}/stop?t=0")
        assert await WORKER.reconcile(target, change, acting()) is Happened.UNKNOWN
        await target.close()


async def test_an_unhealthy_container_is_no_success() -> None:
    """The Engine said 204; what counts is the container's own health check."""
    services = {"worker": {"healthcheck": {"test": ["CMD", "test", "-e", "/tmp/well"]}}}
    with engine().project(services) as project:
        id = project.create("worker")
        target = project.target()
        change = await _diff(target)
        await WORKER.apply(target, change, acting())
        for _ in range(100):
            if project.inspect("worker")["State"]["Health"]["Status"] == "unhealthy":
                break
            await asyncio.sleep(0.05)
        with pytest.raises(TemporaryError, match="unhealthy"):
            await WORKER.verify(target, change, acting())
        engine().request("DELETE", f"/containers/{id}?force=true")
        with pytest.raises(TemporaryError, match="not up again"):
            await WORKER.verify(target, change, acting())
        await target.close()


async def test_an_engine_that_hangs_ends_in_time() -> None:
    """A frozen Engine: looking fails as temporary and acting as unknown, both within the time-out."""
    it = engine()
    with it.project() as project:
        project.create("worker")
        target = project.target(timeout="3s")
        try:
            change = await _diff(target)
            running = await WORKER._running(target)
            it.server.kill(signal.SIGSTOP)
            try:
                started = time.monotonic()
                with pytest.raises(TemporaryError, match="no answer in time"):
                    await _diff(target)
                assert time.monotonic() - started < 5
                started = time.monotonic()
                with pytest.raises(Unanswered, match="no answer in time"):
                    await (await target.engine()).restart(running, 0, acting().check_deadline)
                assert time.monotonic() - started < 5
            finally:
                it.server.kill(signal.SIGCONT)
            late = Happened.UNKNOWN
            async with asyncio.timeout(30):
                while late is not Happened.YES:  # The request is carried out late, by an engine that has to catch up.
                    with contextlib.suppress(TemporaryError):
                        late = await WORKER.reconcile(target, change, acting())
                    await asyncio.sleep(0.05)
        finally:
            await target.close()


async def test_an_engine_that_is_gone_did_nothing(tmp_path: Path) -> None:
    """No socket, or one on which nobody listens: temporary, nothing was sent."""
    (tmp_path / "file").touch()
    for socket in (tmp_path / "none", tmp_path / "file"):
        target = ComposeTarget(project="p", socket=str(socket))
        with pytest.raises(TemporaryError, match="no connection to the Engine") as caught:
            await _diff(target)
        assert caught.value.reason == "connect"
        await target.close()


async def test_a_container_that_goes_away_in_the_middle() -> None:
    """One of two is removed after the look: that is half an effect, which is neither done nor not done."""
    with engine().project() as project:
        project.create("worker")
        gone = project.create("worker", 2)
        target = project.target()
        running = await WORKER._running(target)
        _remove(project, gone)
        with pytest.raises(Unfinished, match="1 of 2 containers did not restart"):
            await (await target.engine()).restart(running, 0, acting().check_deadline)
        with pytest.raises(PermanentError, match="404"):
            await (await target.engine()).restart(running[1:], 0, acting().check_deadline)
        await target.close()


def _remove(project: Project, id: str) -> None:
    project.engine.request("DELETE", f"/containers/{id}?force=true")


async def test_a_socket_that_may_not_be_used_is_permanent() -> None:
    """Whoever runs Remediator may not talk to the Engine: trying again will not help, and nothing was sent."""
    with engine().project() as project:
        project.create("worker")
        target = project.target()
        os.seteuid(65534)
        try:
            with pytest.raises(PermanentError, match="not allowed to use the Engine's socket") as caught:
                await _diff(target)
        finally:
            os.seteuid(0)
        assert caught.value.reason == "permission"
        await target.close()
