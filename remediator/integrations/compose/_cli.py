"""Compose's own command line, for what the Engine API cannot do: it alone knows what a Compose file means."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations import _host
from remediator.integrations._process import Ended, Interrupted
from remediator.integrations.compose.target import ComposeTarget

_LIMIT = 8 * 1024 * 1024


async def config_hashes(target: ComposeTarget, services: Sequence[str]) -> dict[str, str]:
    """The hash of each service's configuration as the files say it now; containers carry theirs in a label."""
    ended = await _read(target, ["config", "--hash", ",".join(services)])
    found = dict(line.split() for line in ended.stdout.splitlines() if len(line.split()) == 2)
    if set(found) != set(services):
        raise TemporaryError("compose config --hash printed something that is no hash", reason="malformed")
    return found


async def definition(target: ComposeTarget, service: str) -> dict[str, Any]:
    """The service as the files say it. It may hold secrets: it is looked at, and never kept or shown."""
    ended = await _read(target, ["config"])
    try:
        found = yaml.safe_load(ended.stdout)["services"][service]
    except (yaml.YAMLError, KeyError, TypeError):
        raise PermanentError(f'the Compose files have no service "{service}"', reason="not_found") from None
    return dict(found)


async def up(target: ComposeTarget, services: Sequence[str], *flags: str, check: Callable[[], None]) -> None:
    """``compose up`` of just these services. Raises Interrupted whenever it did not simply succeed."""
    argv = ["up", "--detach", "--no-deps", "--no-build", *flags, *services]
    ended = await _execute(target, argv, check)
    if ended.code != 0:
        words = (ended.stderr or ended.stdout).strip()[-500:]
        raise Interrupted(f"compose up exited with {ended.code}: {words}")


async def _read(target: ComposeTarget, words: Sequence[str]) -> Ended:
    """A call that changes nothing. What it printed is never part of a message: it may hold environments."""
    try:
        ended = await _execute(target, words, lambda: None)
    except Interrupted:
        raise TemporaryError(f"compose {words[0]} gave no answer", reason="unanswered") from None
    if ended.code != 0:
        said = ended.stderr.strip()[-300:]
        raise PermanentError(f"compose {words[0]} exited with {ended.code}: {said}", reason="compose_file")
    return ended


async def _execute(target: ComposeTarget, words: Sequence[str], check: Callable[[], None]) -> Ended:
    if target.directory is None:
        raise PermanentError("the target has no directory, so that Compose cannot be called", reason="settings")
    files = [part for file in target.files for part in ("--file", os.path.join(target.directory, file))]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "DOCKER_HOST": f"unix://{target.socket}",
        "COMPOSE_ANSI": "never",
    }
    if target.docker_config is not None:
        environment["DOCKER_CONFIG"] = target.docker_config
    return await _host.execute(
        None,
        [*target.compose, "--project-name", target.project, *files, *words],
        directory=target.directory,
        environment=environment,
        seconds=target.compose_timeout,
        limit=_LIMIT,
        secrets=[],
        check=check,
    )
