"""Tests of the action compose.down, with a real Docker Engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remediator.errors import TemporaryError
from remediator.integrations.compose._container import Unfinished
from remediator.integrations.compose.down import Down
from tests.integrations.compose.engine import engine
from tests.integrations.support import acting


async def test_everything_goes_and_nothing_else_does() -> None:
    """Running, stopped and half-removed containers of the project go; another project stays; twice is once."""
    with engine().project({"a": {}, "b": {}}) as project, engine().project() as other:
        project.create("a")
        project.create("b", start=False)
        other.create("worker")
        target, action = project.target(), Down(grace=0)
        change = await action.diff(target, acting())
        assert change.before == {"containers": {"a": 1, "b": 1}}
        with pytest.raises(TemporaryError, match="2 containers are still there"):
            await action.verify(target, change, acting())
        engine().request("POST", f"/containers/{project.inspect('a')['Id']}/stop?t=0")  # As far as a crash left it.
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
        assert project.containers() == []
        assert other.states() == {"worker_1": "running"}
        again = await action.apply(target, change, acting())
        assert again.data == {"removed": 0}
        assert (await action.diff(target, acting())).empty
        assert action.inverse(change) is None
        await target.close()


@asynccontextmanager
async def _refusing(path: Path) -> AsyncIterator[str]:
    """A way to the Engine on which removals are refused, as the Engine refuses while one is under way (409)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"DELETE"):
            said = b'{"message":"removal of container is already in progress"}'
            kind = b"Content-Type: application/json\r\nConnection: close\r\n"
            writer.write(b"HTTP/1.1 409 Conflict\r\n" + kind + b"Content-Length: %d\r\n\r\n" % len(said) + said)
        else:
            answers, questions = await asyncio.open_unix_connection(engine().socket)
            questions.write(head)
            while chunk := await answers.read(65536):
                writer.write(chunk)
            questions.close()
        writer.close()

    server = await asyncio.start_unix_server(serve, path / "socket")
    yield str(path / "socket")
    server.close()
    await server.wait_closed()


async def test_what_is_stopped_and_cannot_be_removed_is_half_an_effect(tmp_path: Path) -> None:
    """The second half fails: that must not be told as if nothing had happened; done again, it goes on."""
    with engine().project() as project:
        project.create("worker")
        target, action = project.target(), Down(grace=0)
        change = await action.diff(target, acting())
        async with _refusing(tmp_path) as socket:
            hindered = project.target(socket=socket)
            with pytest.raises(Unfinished, match=r"everything is stopped, but cannot remove worker 1.*in progress"):
                await action.apply(hindered, change, acting())
            await hindered.close()
        assert project.states() == {"worker_1": "exited"}
        await action.apply(target, change, acting())
        assert project.containers() == []
        await target.close()


def test_trap_22_down_always_asks_a_person() -> None:
    """It is the whole system: `*` in the permissions, not the name of any service, and a yes in every mode."""
    with engine().project() as project:
        action = Down()
        assert action.needs_approval(project.target())
        assert action.subject() == ""
        narrow = project.target(permit={"actions": ["compose.down"], "services": ["worker", "a*", "*b", "all"]})
        assert narrow.refusal("compose.down", action.needs())
        assert project.target().refusal("compose.down", action.needs()) is None
