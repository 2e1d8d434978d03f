"""Going through the stages of a project: what is left to do, doing it, and waiting for what must hold in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from remediator.errors import ActionError, PermanentError
from remediator.integrations.compose import _cli
from remediator.integrations.compose._container import Container, Unfinished
from remediator.integrations.compose.target import Check, ComposeTarget, Stage

if TYPE_CHECKING:
    from remediator.integrations.compose._engine import Engine

T = TypeVar("T")
POLL = 0.5
"""Seconds between two looks while a stage waits."""

Look = dict[str, str]
"""Service → ``running``, ``stopped`` or ``missing``."""


def chosen(stages: Sequence[Stage], names: Sequence[str] | None, services: Sequence[str] | None) -> list[Stage]:
    """The stages to go through, in the order of the settings. Raises PermanentError where a name is unknown."""
    if not stages:
        raise PermanentError("the target has no order: write startup (and shutdown) in the settings", reason="settings")
    for what, wanted, known in (
        ("stage", names, {stage.name for stage in stages}),
        ("service", services, {service for stage in stages for service in stage.services}),
    ):
        if unknown := set(wanted or ()) - known:
            raise PermanentError(f'the order of the target has no {what} "{min(unknown)}"', reason="parameter")
    return [
        stage.model_copy(update={"services": kept})
        for stage in stages
        if names is None or stage.name in names
        if (kept := [service for service in stage.services if services is None or service in services])
    ]


def look(stages: Sequence[Stage], found: Sequence[Container]) -> Look:
    """How the services of the stages are. One of which a part of the containers is stopped counts as stopped."""
    states: Look = {}
    for stage in stages:
        for service in stage.services:
            mine = [each.running for each in found if each.service == service]
            states[service] = "missing" if not mine else "running" if all(mine) else "stopped"
    return states


def runs(stages: Sequence[Stage], found: Sequence[Container]) -> list[str]:
    """The services of the stages of which at least one container runs."""
    return [
        service
        for stage in stages
        for service in stage.services
        if any(each.service == service and each.running for each in found)
    ]


async def shut_down(
    target: ComposeTarget, stages: Sequence[Stage], grace: int | None, check: Callable[[], None]
) -> list[str]:
    """Stop stage after stage; returns the services that were stopped. Waits only where something is left to stop.

    ``check`` is for the first effect: the licence covers the whole procedure, and its owner is stopped if it loses it.
    Raises Unfinished once something was stopped, TemporaryError or PermanentError before.
    """
    engine, stopped = await target.engine(), _Progress()
    for position, stage in enumerate(stages):
        found = await _guarded(stopped, engine.containers())
        left = [each for each in found if each.service in stage.services and each.running]
        if left:
            await _guarded(stopped, engine.stop(left, grace, check if not stopped.done else _nothing))
            stopped.done += sorted({each.service for each in left})
        if runs(stages[position + 1 :], found):
            await _wait(target, engine, stage, stopped, [])
    return stopped.done


async def start_up(target: ComposeTarget, stages: Sequence[Stage], check: Callable[[], None]) -> list[str]:
    """Start stage after stage; returns the services that were started. Each must be up before the next begins.

    Containers that were removed are made anew by Compose. Raises as ``shut_down`` does.
    """
    engine, started = await target.engine(), _Progress()
    for stage in stages:
        found = await _guarded(started, engine.containers())
        states = look([stage], found)
        missing = [service for service in stage.services if states[service] == "missing"]
        stopped = [each for each in found if states.get(each.service) == "stopped" and not each.running]
        first = check if not started.done else _nothing
        if stopped:
            await _guarded(started, engine.start(stopped, first))
            started.done += sorted({each.service for each in stopped})
        if missing:
            first = check if not started.done else _nothing
            await _guarded(started, _cli.up(target, missing, "--no-recreate", check=first))
            started.done += missing
        await _wait(target, engine, stage, started, stage.services)
    return started.done


class _Progress:
    """What was done so far; once it is something, a failure no longer means that nothing happened."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def unfinished(self, why: object) -> Unfinished:
        """The procedure ends here, half way."""
        return Unfinished(f"{why}; done so far: {', '.join(self.done) or 'nothing'}, and nothing after it")


def _nothing() -> None:
    """No further check."""


async def _guarded(progress: _Progress, call: Awaitable[T]) -> T:
    """``call``; once something was done, its failure is the procedure's, half way."""
    try:
        return await call
    except ActionError as error:
        if progress.done:
            raise progress.unfinished(error) from error
        raise


async def _wait(target: ComposeTarget, engine: Engine, stage: Stage, progress: _Progress, up: Sequence[str]) -> None:
    """Until the services of ``up`` are well and all checks of the stage hold, at one and the same look."""
    why = "it was not looked at"
    try:
        async with asyncio.timeout(stage.within):
            while True:
                why = await _missing(target, engine, stage, up)
                if not why:
                    return
                await asyncio.sleep(POLL)
    except TimeoutError:
        text = f"stage {stage.name} waited {stage.within:g} s in vain: {why}"
        raise progress.unfinished(text) from None


async def _missing(target: ComposeTarget, engine: Engine, stage: Stage, up: Sequence[str]) -> str:
    """What does not hold, as a sentence; nothing if all holds. What cannot be told does not hold."""
    try:
        found = await engine.containers()
    except ActionError as error:
        return str(error)
    for each in found:
        if each.service in up and not each.well:
            return f"{each.service} is {each.state} ({each.health})"
    for name in stage.wait:
        if why := await _asked(engine, found, name, target.checks[name]):
            return why
    return ""


async def _asked(engine: Engine, found: Sequence[Container], name: str, check: Check) -> str:
    container = next((each for each in found if each.service == check.service and each.state == "running"), None)
    if container is None:
        return f"{name} cannot be asked, because {check.service} does not run"
    try:
        code, said = await engine.ask(container, check.exec, check.timeout)
    except (ActionError, TimeoutError) as error:
        return f"{name} gave no answer ({type(error).__name__})"
    if code != 0:
        return f"{name} exited with {code}"
    if check.equals is not None and said.strip() != check.equals:
        return f'{name} is "{said.strip()[:100]}" and not "{check.equals}"'
    return ""
