"""Tests of the action kubernetes.exec, over a real WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Effect
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.kubernetes.exec import Exec
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, Fault
from tests.integrations.kubernetes.carrying import shown
from tests.integrations.support import acting

COMMANDS: dict[str, Any] = {
    "reload": {"argv": ["pgbouncer", "-R", "a b;$(c)"]},
    "show-pools": {"argv": ["psql", "-c", "SHOW POOLS"], "effect": "idempotent", "timeout": "500ms"},
}


@pytest.fixture
async def target(api: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesTarget]:
    """A target with two commands."""
    settings = {"kubeconfig": api.kubeconfig(tmp_path), "request_timeout": "1s", "commands": COMMANDS}
    it = KubernetesTarget.model_validate(settings)
    yield it
    await it.close()


def _run(command: str = "reload", **parameters: Any) -> Exec:
    return Exec.model_validate({"namespace": "production", "pod": "queue-0", "command": command, **parameters})


async def test_a_named_command_runs_without_a_shell(api: ApiServer, target: KubernetesTarget) -> None:
    """The arguments arrive one by one as the operator wrote them, in the one container, and the output is kept."""
    change = await shown(_run(), target)
    assert change.after["argv"] == COMMANDS["reload"]["argv"]
    outcome = await _run().apply(target, change, acting())
    assert api.answers.programs == [("queue-0", "main", COMMANDS["reload"]["argv"])]
    assert outcome.data == {"exit_code": 0, "stdout": "pgbouncer -R a b;$(c)", "stderr": "a warning"}


async def test_checking_and_restarting_are_two_commands(target: KubernetesTarget) -> None:
    """T8: the runbook calls a restart a check; here each is named and permitted by itself, and declares its effect."""
    assert _run("reload").effect_on(target) is Effect.ONCE
    assert _run("show-pools").effect_on(target) is Effect.IDEMPOTENT
    permit = {"actions": ["*"], "namespaces": ["*"], "pods": ["queue-*"], "commands": ["show-pools"]}
    some = target.model_copy(update={"permit": permit})
    assert some.refusal("kubernetes.exec", _run("show-pools").needs()) is None
    assert "commands" in str(some.refusal("kubernetes.exec", _run("reload").needs()))


async def test_an_exit_code_is_the_commands_own_word(api: ApiServer, target: KubernetesTarget) -> None:
    """Any other code than 0 ends the step with the end of what the command said."""
    api.answers.exit_code = 3
    with pytest.raises(PermanentError, match="reload exited with 3: a warning") as caught:
        await _run().apply(target, await shown(_run(), target), acting())
    assert caught.value.reason == "exit_code"


async def test_a_command_that_does_not_end_is_unknown(api: ApiServer, target: KubernetesTarget) -> None:
    """A program that hangs, and a connection that breaks, leave the outcome unknown within the command's time-out."""
    api.answers.program_hangs = True
    action = _run("show-pools")
    change = await shown(action, target)
    with pytest.raises(Unanswered, match="unknown"):
        await action.apply(target, change, acting())
    api.faults.append(Fault("create", "pods/exec", "reset"))
    with pytest.raises(Unanswered, match="unknown"):
        await action.apply(target, change, acting())


async def test_what_the_api_server_refuses_did_not_run(api: ApiServer, target: KubernetesTarget) -> None:
    """A refused handshake is a clear no: nothing ran."""
    api.faults.append(Fault("create", "pods/exec", 403))
    with pytest.raises(PermanentError, match='create pods/exec "queue-0"') as caught:
        await _run().apply(target, await shown(_run(), target), acting())
    assert caught.value.reason == "status_403"
    assert api.answers.programs == []


async def test_only_the_pod_and_the_command_that_were_shown(api: ApiServer, target: KubernetesTarget) -> None:
    """A pod that was replaced, one that is not running, a container and a command that are not there are refused."""
    change = await shown(_run(), target)
    api.objects["pods", "production", "queue-0"]["metadata"]["uid"] = "another"
    with pytest.raises(PermanentError) as caught:
        await _run().apply(target, change, acting())
    assert caught.value.reason == "changed"
    for action, reason in ((_run("other"), "command"), (_run(container="none"), "container")):
        with pytest.raises(PermanentError) as caught:
            await shown(action, target)
        assert caught.value.reason == reason
    api.objects["pods", "production", "queue-0"]["status"]["phase"] = "Pending"
    with pytest.raises(TemporaryError):
        await shown(_run(), target)
    assert api.answers.programs == []


def test_settings_hold_argument_lists() -> None:
    """A command line in one text, an empty list and parameters are refused in the settings."""
    wrongs: list[dict[str, Any]] = [
        {"argv": "ls -l"},
        {"argv": []},
        {"argv": ["ls"], "parameters": {}},
        {"argv": ["ls\x00"]},
    ]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            KubernetesTarget.model_validate({"commands": {"x": wrong}})
