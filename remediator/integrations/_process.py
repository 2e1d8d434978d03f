"""Running one program without a shell, so that it never outlives its licence or this service."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._output import Output

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
    outputs = Output(limit, secrets), Output(limit, secrets)
    process, status = _start(argv, directory, environment, grace)
    late = False
    report = asyncio.ensure_future(_to_its_end(status))
    readers = [
        asyncio.ensure_future(_collect(process.stdout, outputs[0])),
        asyncio.ensure_future(_collect(process.stderr, outputs[1])),
    ]
    try:
        await asyncio.wait({report}, timeout=seconds)
        late = not report.done()
    finally:
        await _finish(process, report, readers, grace)
    return _result(await report, late, outputs, argv[0], seconds)


def _start(
    argv: Sequence[str], directory: str, environment: Mapping[str, str], grace: float
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """The guardian, and the pipe on which it reports. Only it holds the other end, so the pipe ends with it."""
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            (sys.executable, "-I", "-S", _GUARDIAN, str(write), str(grace), *argv),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(write,),
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    except OSError as error:
        os.close(read)
        raise _not_started(error.errno, argv[0], directory) from None
    finally:
        os.close(write)
    return process, os.fdopen(read, "rb", 0)


async def _collect(pipe: IO[bytes] | None, output: Output | None) -> bytes:
    """Read ``pipe`` to its end into ``output``, or return what came if there is none. Closes the pipe."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        if output is None:
            return await reader.read()
        await output.collect(reader)
        return b""
    finally:
        transport.close()


async def _to_its_end(pipe: IO[bytes]) -> str:
    return (await _collect(pipe, None)).decode()


async def _finish(
    process: subprocess.Popen[bytes],
    report: asyncio.Future[str],
    readers: Sequence[asyncio.Future[bytes]],
    grace: float,
) -> None:
    """Cut the lifeline and leave no process and no pipe behind, also when cancelled."""
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.wait({report}, timeout=grace + 5)
    if not report.done():
        process.kill()
        await asyncio.wait({report}, timeout=5)
    await asyncio.to_thread(process.wait)
    # Something that left the group may hold the pipes open for ever; what was written is there by now.
    await asyncio.wait(readers, timeout=0.5)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


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
