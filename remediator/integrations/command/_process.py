"""Running one program without a shell, so that it never outlives its licence or this service."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.command._output import Output

_GUARDIAN = str(Path(__file__).with_name("_guardian.py"))
GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


class Interrupted(Exception):
    """The command began and did not end by itself: what it did is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A command that ended by itself, with its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str


async def execute(
    argv: Sequence[str],
    *,
    directory: str,
    environment: Mapping[str, str],
    seconds: float,
    limit: int,
    secrets: list[str],
    grace: float = GRACE,
) -> Ended:
    """Run ``argv`` to its end.

    It has a process group of its own, no standard input, and exactly ``environment``. When the time is up, when
    this coroutine is cancelled and when this process dies, the whole group is ended. Raises PermanentError or
    TemporaryError if it could not be started, Interrupted if it was ended or killed.
    """
    status_read, status_write = os.pipe()
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _GUARDIAN, str(status_write), str(grace), *argv),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                pass_fds=(status_write,),
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )
        except OSError as error:
            raise _not_started(error.errno, argv[0], directory) from None
        finally:
            os.close(status_write)
        outputs = Output(limit, secrets), Output(limit, secrets)
        late = await _follow(process, outputs, seconds, grace)
        status = os.read(status_read, 100).decode()
    finally:
        os.close(status_read)
    return _result(status, late, outputs, argv[0], seconds)


async def _follow(process: Process, outputs: tuple[Output, Output], seconds: float, grace: float) -> bool:
    """Wait for the end; True if the time ran out. Leaves no process behind, also when cancelled."""
    assert process.stdout is not None and process.stderr is not None and process.stdin is not None  # noqa: S101
    readers = [
        asyncio.ensure_future(output.collect(stream))
        for output, stream in zip(outputs, (process.stdout, process.stderr), strict=True)
    ]
    late = False
    try:
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            late = True
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(grace + 5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        # Something that left the group may hold the pipes open for ever; what was written is there by now.
        await asyncio.wait(readers, timeout=1)
        for reader in readers:
            reader.cancel()
    return late


def _not_started(number: int | None, program: str, directory: str) -> PermanentError | TemporaryError:
    text = os.strerror(number) if number else "it cannot be started"
    if number in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return TemporaryError(f"{program} was not started: {text}", reason="spawn")
    return PermanentError(f"{program} was not started in {directory}: {text}", reason="spawn")


def _result(status: str, late: bool, outputs: tuple[Output, Output], program: str, seconds: float) -> Ended:
    """What the guardian's report means."""
    stdout, stderr = (output.text() for output in outputs)
    word, _, number = status.partition(" ")
    if word == "spawn":
        raise _not_started(int(number), program, "its directory")
    tail = (stderr or stdout)[-500:]
    if late:
        raise Interrupted(f"{program} had not ended after {seconds:g} s and was ended; it last wrote: {tail}")
    if word != "exit":
        how = f"by signal {number}" if word == "signal" else "and its end was not seen"
        raise Interrupted(f"{program} was killed {how}; it last wrote: {tail}")
    return Ended(code=int(number), stdout=stdout, stderr=stderr)
