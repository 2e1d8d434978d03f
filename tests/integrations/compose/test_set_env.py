"""Tests of the action compose.set_env, with a real Docker Engine and the real Compose."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose import _envfile
from remediator.integrations.compose._container import Unfinished
from remediator.integrations.compose.set_env import SetEnv
from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import acting

SERVICES = {"api": {"env_file": [".env"]}, "events": {"env_file": [".env"]}, "db": {}}
NAME = "DB_MAX_CONNECTIONS"


async def _diff(target: ComposeTarget, action: SetEnv) -> Change:
    return Change.from_json((await action.diff(target, acting())).as_json())


def _has(project: Project, service: str) -> list[str]:
    return [each for each in project.inspect(service)["Config"]["Env"] if each.startswith(NAME)]


async def test_there_and_back_with_the_services_that_use_it() -> None:
    """10 → 50 reaches both services and no other; taken back, both have the 10 again, and the file its bytes."""
    with engine().project(SERVICES) as project:
        file = project.directory / ".env"
        before = f"# kept\nA = 1\r\nexport {NAME}=10\nZ='x y'"
        file.write_bytes(before.encode())
        file.chmod(0o640)
        project.compose("up", "--detach")
        db = project.inspect("db")["Id"]
        target = project.target()
        action = SetEnv(variable=NAME, value="50", recreate=["api", "events"])
        change = await _diff(target, action)
        assert change.before == {"file": ".env", "value": "10", "outdated": ["api", "events"]}
        assert change.after == {"file": ".env", "value": "50", "outdated": []}
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
        assert _has(project, "api") == _has(project, "events") == [f"{NAME}=50"]
        assert file.read_bytes().decode() == before.replace("=10", "=50")
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert [path.name for path in project.directory.iterdir() if path.name.startswith(".remediator")] == []
        assert (await _diff(target, action)).empty
        inverse = SetEnv.model_validate(action.inverse(change).model_dump(mode="json", exclude_unset=True))
        await inverse.apply(target, await _diff(target, inverse), acting())
        assert _has(project, "api") == _has(project, "events") == [f"{NAME}=10"]
        assert file.read_bytes().decode() == before
        assert project.inspect("db")["Id"] == db
        assert (await _diff(target, inverse)).empty
        await target.close()


async def test_done_again_after_a_crash_it_goes_on_where_it_was() -> None:
    """The file was written and the service was not recreated: that is seen, and only that is left to do."""
    with engine().project({"api": {"env_file": [".env"]}}) as project:
        file = project.directory / ".env"
        file.write_text(f"{NAME}=10\n")
        project.compose("up", "--detach")
        target, action = project.target(), SetEnv(variable=NAME, value="50", recreate=["api"])
        broken = project.target(compose=["/nowhere/compose"])
        change = await _diff(target, action)
        with pytest.raises(Unfinished, match=r"\.env is written, but"):
            await action.apply(broken, change, acting())
        with pytest.raises(TemporaryError, match="api does not have it yet"):
            await action.verify(target, change, acting())
        again = await _diff(target, action)
        assert again.before == {"file": ".env", "value": "50", "outdated": ["api"]}
        await action.apply(target, again, acting())
        assert _has(project, "api") == [f"{NAME}=50"]
        await target.close()
        await broken.close()


async def test_a_service_that_is_not_there_is_found_before_the_file_is_written() -> None:
    """One wrong name among the services, and nothing happens at all."""
    with engine().project() as project:
        project.create("worker")
        target = project.target()
        with pytest.raises(PermanentError, match='no container of a service "nothing"'):
            await _diff(target, SetEnv(variable=NAME, value="50", recreate=["worker", "nothing"]))
        assert (project.directory / ".env").read_text() == ""
        await target.close()


async def test_somebody_elses_value_is_left_alone(tmp_path: Path) -> None:
    """Acting compares with what was shown, and taking back with what was left; another value is refused."""
    target = ComposeTarget(project="p", directory=str(tmp_path))
    file = tmp_path / ".env"
    file.write_text(f"{NAME}=10\n")
    action = SetEnv(variable=NAME, value="50")
    change = await _diff(target, action)
    file.write_text(f"{NAME}=30\n")
    with pytest.raises(TemporaryError, match="has changed since") as caught:
        await action.apply(target, change, acting())
    with pytest.raises(PermanentError, match="is 30 and not 50") as refused:
        await _diff(target, action.inverse(change))
    assert (caught.value.reason, refused.value.reason) == ("changed", "changed")
    assert file.read_text() == f"{NAME}=30\n"


async def test_a_variable_that_was_not_set_is_removed_again(tmp_path: Path) -> None:
    """From nothing to 50 and back to nothing; and removing is taken back only while it is removed."""
    target = ComposeTarget(project="p", directory=str(tmp_path))
    file = tmp_path / ".env"
    file.write_text("A=1")
    action = SetEnv(variable=NAME, value="50")
    change = await _diff(target, action)
    assert change.before["value"] is None
    await action.apply(target, change, acting())
    assert file.read_text() == f"A=1\n{NAME}=50\n"
    inverse = action.inverse(change)
    removal = await _diff(target, inverse)
    await inverse.apply(target, removal, acting())
    assert file.read_text() == "A=1\n"
    again = inverse.inverse(removal)
    assert again.model_dump(exclude_unset=True)["only_if_unset"] is True
    file.write_text(f"A=1\n{NAME}=20\n")
    with pytest.raises(PermanentError, match="was to be unset"):
        await _diff(target, again)


@pytest.mark.parametrize(
    ("text", "says", "reason"),
    [
        (f"{NAME}=1\n{NAME}=2\n", "2 times", "ambiguous"),
        (f"{NAME}=postgres://app:canary@db/x\n", "holds a password", "secret"),
        (f"{NAME}=\udcff\n", "not UTF-8", "malformed"),
        ("x" * (1024 * 1024 + 1), "larger than", "malformed"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, says: str, reason: str) -> None:
    """What is ambiguous, secret, no text or too large is told and not touched; nothing secret is in the message."""
    (tmp_path / ".env").write_bytes(text.encode(errors="surrogateescape"))
    target = ComposeTarget(project="p", directory=str(tmp_path))
    with pytest.raises(PermanentError, match=says) as caught:
        await _diff(target, SetEnv(variable=NAME, value="50"))
    assert caught.value.reason == reason
    assert "canary" not in str(caught.value)


async def test_a_file_that_is_not_there_or_not_listed_is_refused(tmp_path: Path) -> None:
    """Only files that the settings list, inside the project's folder, are ever looked at."""
    target = ComposeTarget(project="p", directory=str(tmp_path))
    with pytest.raises(PermanentError, match="does not exist"):
        await _diff(target, SetEnv(variable=NAME, value="50"))
    for file in ("../x", "/etc/passwd", "other.env", ""):
        with pytest.raises(PermanentError, match="not among the env_files"):
            await _diff(target, SetEnv(variable=NAME, value="50", file=file))
    for file in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(ValidationError):
            ComposeTarget(project="p", env_files=[file])
    with pytest.raises(PermanentError, match="no directory"):
        await _diff(ComposeTarget(project="p"), SetEnv(variable=NAME, value="50"))


async def test_a_folder_that_may_not_be_written_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The file is replaced in one step or not at all; a link stays a link."""
    file = tmp_path / "real.env"
    file.write_text(f"{NAME}=10\n")
    (tmp_path / ".env").symlink_to(file)
    await asyncio.to_thread(_envfile.write, str(tmp_path / ".env"), NAME, "50")
    assert (tmp_path / ".env").is_symlink()
    assert file.read_text() == f"{NAME}=50\n"
    with pytest.raises(PermanentError, match="cannot be replaced") as caught:
        await asyncio.to_thread(_envfile._replace, "/proc/self/environ", b"x")
    assert caught.value.reason == "permission"


@pytest.mark.parametrize("variable", ["API_TOKEN", "PASSWORD", "PRIVATE_KEY", "A_SECRET", "1A", "A-B", "A=B", "a\n"])
def test_secrets_and_odd_names_are_never_set(variable: str) -> None:
    """A change is shown to people, so no variable that looks like a secret can be part of one."""
    with pytest.raises(ValidationError):
        SetEnv(variable=variable, value="x")


@pytest.mark.parametrize("value", ["a b", "a\nB=1", "'", '"', "$HOME", "`id`", "a#b", "\\", "ü", "x" * 1001, "a\x00"])
def test_values_that_mean_something_to_a_dialect_are_refused(value: str) -> None:
    """What one version of Compose would quote, cut or fill in differently from another is no value."""
    with pytest.raises(ValidationError):
        SetEnv(variable=NAME, value=value)


def test_every_service_that_is_recreated_must_be_permitted() -> None:
    """The permission of a variable is not one to recreate: each service is asked for."""
    action = SetEnv(variable=NAME, value="1", recreate=["api", "events"])
    permit = {"actions": ["compose.set_env"], "variables": ["DB_*"], "services": ["api"]}
    target = ComposeTarget(project="p", permit=permit)
    refusal = target.refusal("compose.set_env", action.needs())
    assert refusal is not None
    assert '"events"' in refusal
    assert target.refusal("compose.set_env", SetEnv(variable=NAME, value="1", recreate=["api"]).needs()) is None
    assert target.refusal("compose.set_env", SetEnv(variable="OTHER", value="1").needs()) is not None
