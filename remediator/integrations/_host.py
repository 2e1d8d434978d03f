"""The machine on which programs of an integration run: this one, or another one over SSH."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from remediator.errors import PermanentError
from remediator.integrations import _process
from remediator.integrations._process import Ended
from remediator.integrations._ssh import SSH


async def execute(
    ssh: SSH | None,
    argv: Sequence[str],
    *,
    directory: str,
    environment: Mapping[str, str],
    seconds: float,
    limit: int,
    secrets: list[str],
    check: Callable[[], None] = lambda: None,
) -> Ended:
    """Run ``argv`` to its end, without a shell of ours; ``check`` is called right before it begins and may raise.

    Raises PermanentError or TemporaryError if it was not started, Interrupted if what it did is unknown.
    """
    if any("\x00" in text for text in argv):
        raise PermanentError("an argument holds a NUL character", reason="parameter")
    if ssh is None:
        check()
        return await _process.execute(
            argv, directory=directory, environment=environment, seconds=seconds, limit=limit, secrets=secrets
        )
    client = await asyncio.to_thread(_import_client)
    return await client(
        ssh,
        argv,
        directory=directory,
        environment=environment,
        seconds=seconds,
        limit=limit,
        secrets=secrets,
        check=check,
    )


def _import_client() -> Callable[..., Awaitable[Ended]]:
    from remediator.integrations._ssh_client import execute

    return execute
