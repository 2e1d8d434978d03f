"""Tests of the action compose.recreate, with a real Docker Engine and the real Compose."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Interrupted
from remediator.integrations.compose.recreate import Recreate
from remediator.integrations.compose.restart import Restart
from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import acting

SERVICES = {"api": {"env_file": [".env"], "depends_on": ["db"]}, "db": {}}


async def _done(target: ComposeTarget, action: Recreate | Restart) -> Change:
    change = Change.from_json((await action.diff(target, acting())).as_json())
    await action.apply(target, change, acting())
    await action.verify(target, change, acting())
    return change


def _environment(project: Project) -> list[str]:
    found: list[str] = project.inspect("api")["Config"]["Env"]
    return found


async def test_trap_12_a_restart_does_not_apply_a_changed_environment_and_recreate_does() -> None:
    """After an edit of .env, `restart` brings the old value up again; `recreate` brings the new one."""
    with engine().project(SERVICES) as project:
        (project.directory / ".env").write_text("DB_MAX_CONNECTIONS=10\n")
        project.compose("up", "--detach")
        target = project.target()
        assert (await Recreate(service="api").diff(target, acting())).empty
        (project.directory / ".env").write_text("DB_MAX_CONNECTIONS=50\n")
        db = project.inspect("db")
        await _done(target, Restart(service="api", grace=1))
        assert "DB_MAX_CONNECTIONS=10" in _environment(project)
        change = await _done(target, Recreate(service="api"))
        assert "DB_MAX_CONNECTIONS=50" in _environment(project)
        assert set(change.after) == {"configurations"}, "a hash, and nothing of the environment"
        assert project.inspect("db")["State"]["StartedAt"] == db["State"]["StartedAt"]
        assert (await Recreate(service="api").diff(target, acting())).empty
        await target.close()


async def test_by_force_it_is_made_anew_and_seen_to_be() -> None:
    """With nothing changed only force has something to do; after a crash the new container tells."""
    with engine().project() as project:
        old = project.create("worker")
        target, action = project.target(), Recreate(service="worker", force=True)
        assert action.effect_on(target) is Effect.PROBE
        assert Recreate(service="worker").effect_on(target) is Effect.IDEMPOTENT
        change = Change.from_json((await action.diff(target, acting())).as_json())
        assert await action.reconcile(target, change, acting()) is Happened.NO
        await action.apply(target, change, acting())
        assert project.inspect("worker")["Id"] != old
        assert await action.reconcile(target, change, acting()) is Happened.YES
        await target.close()


async def test_files_that_changed_since_they_were_shown_are_not_applied() -> None:
    """What was approved is one configuration; another one is looked at anew."""
    with engine().project() as project:
        project.create("worker")
        target, action = project.target(), Recreate(service="worker")
        change = await action.diff(target, acting())
        project.write({"worker": {"environment": {"A": "1"}}})
        with pytest.raises(TemporaryError, match="changed since"):
            await action.apply(target, change, acting())
        with pytest.raises(TemporaryError, match="or an old one"):
            await action.verify(target, change, acting())
        await target.close()


async def test_wrong_settings_and_wrong_files_are_told_before_anything_happens(tmp_path: Path) -> None:
    """No folder, no Compose, a broken file, a service that it does not have: permanent, and nothing was touched."""
    with engine().project() as project:
        life = project.create("worker")
        for wrong, says in (
            ({"directory": None}, "no directory"),
            ({"compose": ["/nowhere/compose"]}, "was not started"),
            ({"files": ["none.yml"]}, "exited with 1"),
            ({"directory": str(tmp_path / "none")}, "was not started"),
        ):
            target = project.target(**wrong)
            with pytest.raises(PermanentError, match=says):
                await Recreate(service="worker").diff(target, acting())
            await target.close()
        target = project.target()
        project.write({"other": {}})
        with pytest.raises(PermanentError, match="exited with 1"):
            await Recreate(service="worker").diff(target, acting())
        assert project.inspect("worker")["Id"] == life
        await target.close()


async def test_compose_gets_a_clean_environment(tmp_path: Path) -> None:
    """Nothing of Remediator's environment reaches Compose, only where the Engine and its configuration are."""
    program = tmp_path / "compose"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment; echo worker 1234\n")
    program.chmod(0o755)
    with engine().project() as project:
        project.create("worker")
        target = project.target(compose=[str(program)], docker_config="/etc/remediator/docker")
        await Recreate(service="worker").diff(target, acting())
        await target.close()
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert names - {"PWD", "_", "OLDPWD", "SHLVL"} == {
        "PATH", "LANG", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "COMPOSE_ANSI"
    }  # fmt: skip


@pytest.mark.parametrize("says", ["exit 1", "exec sleep 60"])
async def test_compose_that_does_not_end_well_is_unknown_and_shows_no_environment(says: str, tmp_path: Path) -> None:
    """An `up` that fails or hangs may have removed the old container; a `config` that does is told without its text."""
    with engine().project() as project:
        project.create("worker")
        program = tmp_path / "compose"
        script = 'case "$*" in *config*) echo worker 1234;; *) echo canary-secret; %s;; esac'
        program.write_text("#!/bin/sh\n" + script % says)
        program.chmod(0o755)
        target = project.target(compose=[str(program)], compose_timeout="500ms")
        action = Recreate(service="worker")
        change = await action.diff(target, acting())
        with pytest.raises(Interrupted):
            await action.apply(target, change, acting())
        program.write_text(f"#!/bin/sh\necho canary-secret; {says}")
        with pytest.raises((TemporaryError, PermanentError)) as caught:
            await action.diff(target, acting())
        assert "canary" not in str(caught.value)
        await target.close()
