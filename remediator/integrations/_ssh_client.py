"""Running one program on another machine over SSH, known by its host key, so that it never outlives its licence.

This module imports asyncssh and is therefore itself imported only when such a target is used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import asyncssh

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._address import ForbiddenAddress, is_forbidden
from remediator.integrations._output import Output
from remediator.integrations._process import GRACE, Ended, Interrupted
from remediator.integrations._ssh import SSH, guardian, program


async def execute(
    ssh: SSH,
    argv: Sequence[str],
    *,
    directory: str,
    environment: Mapping[str, str],
    seconds: float,
    limit: int,
    secrets: list[str],
    check: Callable[[], None],
    grace: float = GRACE,
) -> Ended:
    """Run ``argv`` to its end; ``check`` is called right before the program leaves.

    Raises PermanentError or TemporaryError if it certainly was not started, Interrupted if it was ended or killed or
    the connection broke. An exit code above 128 counts as killed: POSIX shells tell a signal in no other way.
    """
    text = program(argv, directory, environment)
    outputs = Output(limit, secrets), Output(limit, secrets)
    async with _connected(ssh) as connection:
        try:
            process = await connection.create_process(guardian(grace), encoding=None)
        except (asyncssh.Error, OSError) as error:
            raise TemporaryError(f"{ssh.place} starts no program: {error}", reason="ssh") from None
        check()
        process.stdin.write(text)
        late = await _follow(process, outputs, seconds, grace)
        return _result(process.exit_status, late, outputs, f"{argv[0]} on {ssh.place}", seconds)


@asynccontextmanager
async def _connected(ssh: SSH) -> AsyncIterator[asyncssh.SSHClientConnection]:
    connection = await _connect(ssh)
    try:
        yield connection
    finally:
        connection.abort()
        with suppress(TimeoutError, OSError, asyncssh.Error):
            async with asyncio.timeout(1):
                await connection.wait_closed()


async def _connect(ssh: SSH) -> asyncssh.SSHClientConnection:
    try:
        async with asyncio.timeout(ssh.connect_timeout):
            known = await asyncio.to_thread(asyncssh.read_known_hosts, ssh.known_hosts_file)
            key = await asyncio.to_thread(asyncssh.read_private_key, ssh.key_file)
            sock = await _socket(ssh)
            try:
                return await asyncssh.connect(
                    ssh.host,
                    ssh.port,
                    sock=sock,
                    username=ssh.user,
                    client_keys=[key],
                    known_hosts=known,
                    preferred_auth="publickey",
                    config=None,  # The files of whoever runs Remediator say nothing here,
                    agent_path=None,  # and neither does an agent.
                    keepalive_interval=5,
                )
            except BaseException:
                sock.close()
                raise
    except (asyncssh.Error, OSError, ValueError) as error:
        raise _not_connected(error, ssh) from None


async def _socket(ssh: SSH) -> socket.socket:
    """A connection to the first address that answers; none may be a forbidden one."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(ssh.host, ssh.port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if is_forbidden(str(address[0])):
            raise ForbiddenAddress(str(address[0]))
    last = OSError("no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            last = error
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last


async def _follow(
    process: asyncssh.SSHClientProcess[bytes], outputs: tuple[Output, Output], seconds: float, grace: float
) -> bool:
    """Follow the program to its end and say whether it was late; its lifeline is cut whatever happens."""
    everything = asyncio.gather(
        _drain(process.stdout, outputs[0]), _drain(process.stderr, outputs[1]), process.wait_closed()
    )
    late = False
    try:
        await asyncio.wait({everything}, timeout=seconds)
        late = not everything.done()
    finally:
        with suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()
        await asyncio.wait({everything}, timeout=grace + 5)
        everything.cancel()
        with suppress(asyncio.CancelledError, OSError, asyncssh.Error):
            await everything
    return late


async def _drain(stream: asyncssh.SSHReader[bytes], output: Output) -> None:
    while chunk := await stream.read(64 * 1024):
        output.add(chunk)


def _result(code: int | None, late: bool, outputs: tuple[Output, Output], name: str, seconds: float) -> Ended:
    """What the exit status of the guardian means."""
    stdout, stderr = (output.text() for output in outputs)
    tail = (stderr or stdout)[-500:]
    if late:
        raise Interrupted(f"{name} had not ended after {seconds:g} s and was ended; it last wrote: {tail}")
    if code is None or code < 0 or code == 255:
        raise Interrupted(f"the end of {name} was not seen; it last wrote: {tail}")
    if code > 128:
        raise Interrupted(f"{name} was killed (exit code {code}); it last wrote: {tail}")
    return Ended(code=code, stdout=stdout, stderr=stderr)


def _not_connected(error: Exception, ssh: SSH) -> ActionError:
    """The word for a connection that was never made: nothing was started."""
    if isinstance(error, ForbiddenAddress):
        return PermanentError(f"{ssh.place}: {error.strerror}", reason="address")
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return PermanentError(
            f"{ssh.place}: its host key is not in {ssh.known_hosts_file}; nothing was sent", reason="host_key"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return PermanentError(f"{ssh.place}: the key in {ssh.key_file} is not accepted", reason="permission")
    if isinstance(error, ValueError):
        return PermanentError(f"{ssh.place}: a key file cannot be used: {error}", reason="key")
    if isinstance(error, FileNotFoundError | PermissionError):
        return TemporaryError(f"{ssh.place}: {error.filename} cannot be read: {error.strerror}", reason="secret")
    detail = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return TemporaryError(f"{ssh.place}: no connection ({detail}); nothing was sent", reason="connect")
