"""The few calls to the Docker Engine API that actions and probes make, through aiodocker.

This module imports the client and is therefore itself imported only when a target is used.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiodocker import Docker
from aiodocker.exceptions import DockerError
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from yarl import URL

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._client import CheckedRequest, Departure, Unanswered, departing
from remediator.integrations.compose._container import Container, Unfinished

T = TypeVar("T")
_CONNECTION = 900
"""The status of aiodocker's own for a connection that failed, before or after the request left."""
_LONGEST_ANSWER = 64 * 1024


class Engine:
    """The containers of one project."""

    def __init__(self, socket: str, project: str, seconds: float) -> None:
        self._socket = socket
        self._project = project
        self._seconds = seconds
        self._docker: Docker | None = None
        self._session: ClientSession | None = None

    def _open(self) -> Docker:
        if self._docker is None:
            # One connection for each request: on a kept one that is just being closed nobody could tell what became
            # of it. The time is bounded by every call itself.
            self._session = ClientSession(
                connector=UnixConnector(self._socket, force_close=True),
                request_class=CheckedRequest,
                timeout=ClientTimeout(total=None),
            )
            self._docker = Docker(url=f"unix://{self._socket}", session=self._session)
        return self._docker

    async def _call(
        self,
        what: str,
        do: Callable[[Docker], Awaitable[T]],
        *,
        more: float = 0,
        check: Callable[[], None] | None = None,
    ) -> T:
        """One call. ``check`` is given exactly for calls that change something."""
        docker = self._open()
        with departing(check) as departure:
            try:
                async with asyncio.timeout(self._seconds + more):
                    return await do(docker)
            except DockerError as error:
                raise _failure(what, error, departure, check is not None) from error
            except (ClientError, OSError) as error:
                raise _broken(what, error, departure, check is not None) from error

    async def containers(self) -> list[Container]:
        """All containers of the project, running or not, without those of ``compose run``. Writes nothing."""
        labels = [f"com.docker.compose.project={self._project}", "com.docker.compose.oneoff=False"]

        async def read(docker: Docker) -> list[Container]:
            found = await docker.containers.list(all=True, filters=json.dumps({"label": labels}))
            seen = []
            for each in found:
                try:
                    seen.append(Container.of(await each.show()))
                except DockerError as error:
                    if error.status != 404:  # It was removed while we looked.
                        raise
            return sorted(seen, key=lambda each: (each.service, each.number))

        return await self._call("list containers", read)

    async def stop(self, containers: Sequence[Container], grace: int | None, check: Callable[[], None]) -> None:
        """Stop all of them at once."""
        await self._each("stop", containers, grace, check)

    async def start(self, containers: Sequence[Container], check: Callable[[], None]) -> None:
        """Start all of them at once."""
        await self._each("start", containers, 0, check)

    async def restart(self, containers: Sequence[Container], grace: int | None, check: Callable[[], None]) -> None:
        """Restart all of them at once."""
        await self._each("restart", containers, grace, check)

    async def remove(self, containers: Sequence[Container], check: Callable[[], None]) -> None:
        """Remove all of them, which must be stopped, with the volumes that have no name."""
        await self._each("remove", containers, 0, check)

    async def remove_networks(self) -> None:
        """Remove the project's networks, which nothing uses any more."""

        async def remove(docker: Docker) -> None:
            for network in await docker.networks.list(filters={"label": f"com.docker.compose.project={self._project}"}):
                await (await docker.networks.get(network["Id"])).delete()

        await self._call("remove networks", remove)

    async def _each(
        self, verb: str, containers: Sequence[Container], grace: int | None, check: Callable[[], None]
    ) -> None:
        """All at once, so that none begins after the licence ran out while another one takes its time to end."""
        ends = await asyncio.gather(
            *(self._one(verb, container, grace, check) for container in containers), return_exceptions=True
        )
        failed = [end for end in ends if isinstance(end, BaseException)]
        for end in failed:
            if not isinstance(end, ActionError):
                raise end
        if failed and len(failed) < len(ends):
            raise Unfinished(f"{len(failed)} of {len(ends)} containers did not {verb}: {failed[0]}")
        if failed:
            raise failed[0]

    async def _one(self, verb: str, container: Container, grace: int | None, check: Callable[[], None]) -> None:
        async def do(docker: Docker) -> None:
            it = docker.containers.container(container.id)
            if verb == "stop":
                await it.stop(t=grace)
            elif verb == "restart":
                await it.restart(t=grace)
            elif verb == "start":
                await it.start()
            else:
                await it.delete(v=True)

        name = f"{verb} {container.service} {container.number}"
        # Without a grace of ours the container's own counts, which we do not know; ten seconds is what it usually is.
        await self._call(name, do, more=10.0 if grace is None else float(grace), check=check)

    async def logs(self, container: Container, lines: int, since: float, limit: int) -> str:
        """The last lines of a container; of more than ``limit`` bytes of them, the first."""
        where = {"stdout": "1", "stderr": "1", "tail": str(lines), "since": str(int(since))}

        async def read(docker: Docker) -> str:
            await docker.containers.container(container.id).show()  # The client learns the API's version on the way.
            assert self._session is not None  # noqa: S101
            url = URL(f"http://localhost/{docker.api_version}/containers/{container.id}/logs").with_query(where)
            async with self._session.get(url) as response:
                if response.status != 200:
                    raise DockerError(response.status, "the log cannot be read")
                raw = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    raw += chunk
                    if len(raw) > limit:
                        break
                return _text(bytes(raw), container.tty)

        return await self._call(f"read logs of {container.service}", read)

    async def ask(self, container: Container, argv: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a program inside a container: its exit code and the beginning of what it printed."""

        async def run(docker: Docker) -> tuple[int, str]:
            execution = await docker.containers.container(container.id).exec(list(argv), stdin=False)
            said = bytearray()
            async with execution.start(detach=False) as stream:
                while (message := await stream.read_out()) is not None:
                    if message.stream == 1 and len(said) < _LONGEST_ANSWER:
                        said += message.data
            code = (await execution.inspect()).get("ExitCode")
            return (-1 if code is None else int(code)), said.decode(errors="replace")

        async with asyncio.timeout(seconds):
            return await self._call(f"ask {container.service}", run)

    async def close(self) -> None:
        """Release the connections."""
        docker, self._docker = self._docker, None
        session, self._session = self._session, None
        if docker is not None:
            await docker.close()
        if session is not None:
            await session.close()


def _text(raw: bytes, tty: bool) -> str:
    """The lines of a log; without a terminal every piece has a head of eight bytes with its length (Engine API)."""
    if tty:
        return raw.decode(errors="replace")
    pieces = []
    while len(raw) >= 8:
        length = int.from_bytes(raw[4:8], "big")
        pieces.append(raw[8 : 8 + length])
        raw = raw[8 + length :]
    return b"".join(pieces).decode(errors="replace")


def _failure(what: str, error: DockerError, departure: Departure, writes: bool) -> Exception:
    """The word for an answer that is not a success."""
    if error.status == _CONNECTION:
        return _broken(what, error, departure, writes)
    text = f"cannot {what}: the Engine says {error.status}: {str(error.message)[:300]}"
    if error.status >= 500:
        return Unanswered(text) if writes else TemporaryError(text, reason=f"status_{error.status}")
    return PermanentError(text, reason=f"status_{error.status}")


def _broken(what: str, error: Exception, departure: Departure, writes: bool) -> Exception:
    """The word for a call without a usable answer."""
    cause = error.__context__ if isinstance(error, DockerError) else error
    if isinstance(error, PermissionError) or isinstance(getattr(cause, "os_error", None), PermissionError):
        return PermanentError(f"cannot {what}: not allowed to use the Engine's socket", reason="permission")
    if not departure.begun:
        return TemporaryError(f"cannot {what}: no connection to the Engine", reason="connect")
    how = "no answer in time" if isinstance(error, TimeoutError) else "the connection broke"
    if writes:
        return Unanswered(f"{what} was sent, but there was {how}" if "answer" in how else f"{what} was sent, but {how}")
    return TemporaryError(f"cannot {what}: {how}", reason="unanswered")

