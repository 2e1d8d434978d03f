"""Tests of the postgres target: what its settings refuse, and what every failure of the server means."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.postgres.activity import Activity
from remediator.integrations.postgres.execute import Execute
from remediator.integrations.postgres.query import Query
from remediator.integrations.postgres.size import Size
from remediator.integrations.postgres.target import PostgresTarget
from remediator.integrations.postgres.terminate_backends import TerminateBackends
from tests.integrations.postgres.servers import (
    SETUP,
    STATEMENTS,
    backends,
    client,
    one_postgres,
    settings,
    sql,
    target_of,
)
from tests.integrations.support import acting, looking
from tests.postgres import Postgres
from tests.servers import free_port

BASE = {"host": "db", "database": "payment", "user": "remediator"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "db host=other"},
        {"host": ""},
        {"database": "payment sslmode=disable"},
        {"database": "postgresql://evil/x"},
        {"database": "a=b"},
        {"user": "-x"},
        {"password": "canary"},
        {"ca_file": "/x"},
        {"statements": {"a": {"sql": "SELECT 1", "undo": "b"}}},
        {"statements": {"a": {"sql": "SELECT 1", "changes": True, "undo": "b"}}},
        {"statements": {"a": {"sql": "SELECT $1", "parameters": [{"name": "x"}, {"name": "x"}]}}},
        {"statements": {"a": {"sql": "SELECT $1", "parameters": [{"name": "x", "default": 1}]}}},
        {"statements": {"a": {"sql": "SELECT $1", "parameters": [{"name": "x", "minimum": 1}]}}},
        {"rows": {"a": {"table": "t; DROP TABLE t", "key": "id", "columns": {"x": []}}}},
        {"rows": {"a": {"table": "t", "key": "id", "columns": {'x" = 1; --': []}}}},
        {"rows": {"a": {"table": "t", "key": "id", "columns": {"id": []}}}},
        {"dumps": {"a": {"directory": "relative"}}},
        {"dumps": {"a": {"directory": "/var/../etc"}}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    """Names that would be more than names, half undos and secrets in the settings do not load."""
    PostgresTarget.model_validate(BASE)
    with pytest.raises(ValidationError):
        PostgresTarget.model_validate({**BASE, **wrong})


async def test_wrong_credentials_are_permanent_and_the_password_is_never_shown() -> None:
    """A wrong password, an unknown role and an unknown database are told apart from a server that is away."""
    server = one_postgres()
    secret = server.folder / "password-wrong"
    secret.write_text("canary-wrong")
    for more in ({"password_file": str(secret)}, {"user": "stranger"}, {"password_file": None}):
        target = target_of(server, **more)
        with pytest.raises(PermanentError) as caught:
            await Size().read(target, looking())
        assert "canary" not in str(caught.value) + repr(target)
    with pytest.raises(PermanentError, match="nowhere"):
        await Size().read(target_of(server, database="nowhere"), looking())


async def test_the_password_is_read_for_every_connection() -> None:
    """A rotated password works without a restart."""
    server = one_postgres()
    target = target_of(server)
    secret = Path(str(target.password_file))
    right = secret.read_text()
    secret.write_text("canary-old")
    with pytest.raises(PermanentError, match="credentials"):
        await Size().read(target, looking())
    secret.write_text(right)
    assert (await Size().read(target, looking()))["bytes"] > 0


async def test_what_the_role_may_not_do_is_permanent() -> None:
    """Missing rights say what to grant, for reading, for seeing others and for stopping them."""
    server = one_postgres()
    target = target_of(server, user="nobody")
    with pytest.raises(PermanentError, match="may not") as caught:
        await Query(statement="cards").read(target, looking())
    assert caught.value.reason == "permission"
    async with client(server, "somebody"):
        for call in (
            Activity().read(target, looking()),
            TerminateBackends.model_validate(
                {"application": "somebody", "state": "idle", "older_than": "1ms", "max": 1}
            ).diff(target, acting()),
        ):
            with pytest.raises(PermanentError, match="pg_read_all_stats"):
                await call
        sql(server, "GRANT pg_monitor TO nobody")
        try:
            with pytest.raises(PermanentError, match="pg_signal_backend"):
                await TerminateBackends.model_validate(
                    {"application": "somebody", "state": "idle", "older_than": "1ms", "max": 1}
                ).diff(target, acting())
        finally:
            sql(server, "REVOKE pg_monitor FROM nobody")


async def test_a_server_that_is_not_there_is_temporary() -> None:
    """A refused connection and an unknown name may be tried again."""
    for more in ({"port": free_port()}, {"host": "nowhere.invalid"}):
        with pytest.raises(TemporaryError) as caught:
            await Size().read(target_of(one_postgres(), **more), looking())
        assert caught.value.reason == "connect"


class _Line:
    """A TCP line to a server that goes silent, or breaks, once a word passes."""

    def __init__(self, port: int, word: bytes, *, pass_on: bool, close: bool) -> None:
        self.port, self.word, self.pass_on, self.close = port, word, pass_on, close

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        there, onwards = await asyncio.open_connection("127.0.0.1", self.port)
        silent = asyncio.Event()

        async def back() -> None:
            while data := await there.read(65536):
                if not silent.is_set():
                    writer.write(data)

        task = asyncio.create_task(back())
        try:
            while data := await reader.read(65536):
                if self.word in data:
                    silent.set()
                    if self.pass_on:
                        onwards.write(data)
                        await onwards.drain()
                        await asyncio.sleep(0.2)
                    if self.close:
                        break
                elif not silent.is_set():
                    onwards.write(data)
        except ConnectionError:
            pass
        finally:
            onwards.close()
            writer.close()
            task.cancel()
            await asyncio.wait({task})


@pytest.mark.parametrize("close", [True, False], ids=["breaks", "goes silent"])
async def test_a_commit_without_an_answer_is_unknown(close: bool) -> None:
    """The commit left and took effect, and no word of it came: neither word of certainty is used."""
    server = one_postgres()
    sql(server, "DELETE FROM notes")
    proxy = await asyncio.start_server(_Line(server.port, b"COMMIT", pass_on=True, close=close), "127.0.0.1", 0)
    target = target_of(server, port=proxy.sockets[0].getsockname()[1], timeout="1s")
    action = Execute(statement="put-note", parameters={"id": 1, "text": "x"})
    try:
        change = await action.diff(target, acting())
        with pytest.raises(Unanswered, match="commit"):
            await action.apply(target, change, acting())
    finally:
        proxy.close()
        await proxy.wait_closed()
    assert sql(server, "SELECT count(*) FROM notes") == "1"


@pytest.mark.parametrize("close", [True, False], ids=["breaks", "goes silent"])
async def test_a_server_that_goes_before_the_commit_did_nothing(close: bool) -> None:
    """The statement left and the commit did not: it is rolled back for certain, and may be tried again."""
    server = one_postgres()
    sql(server, "DELETE FROM notes")
    proxy = await asyncio.start_server(_Line(server.port, b"INSERT", pass_on=True, close=close), "127.0.0.1", 0)
    action = Execute(statement="put-note", parameters={"id": 1, "text": "x"})
    change = await action.diff(target_of(server), acting())
    target = target_of(server, port=proxy.sockets[0].getsockname()[1], timeout="1s")
    try:
        with pytest.raises(TemporaryError):
            await action.apply(target, change, acting())
    finally:
        proxy.close()
        await proxy.wait_closed()
    for _ in range(50):
        await asyncio.sleep(0.02)
        if backends(server, "remediator") == 0:
            break
    assert (backends(server, "remediator"), sql(server, "SELECT count(*) FROM notes")) == (0, "0")


async def test_a_hung_and_a_killed_server() -> None:
    """A server that is stopped mid-life costs the time-out and no more; one that is gone is temporary."""
    server = Postgres()
    try:
        server.make()
        server.start()
        sql(server, SETUP, database="postgres")
        target = PostgresTarget.model_validate({**settings(server), "timeout": "500ms"})
        action = Execute(statement="put-note", parameters={"id": 1, "text": "x"})
        change = await action.diff(target, acting())
        server.freeze()
        try:
            for call in (Size().read(target, looking()), action.apply(target, change, acting())):
                began = time.monotonic()
                with pytest.raises(TemporaryError, match="in time"):
                    await call
                assert time.monotonic() - began < 2.5
        finally:
            server.thaw()
        slow = asyncio.create_task(
            Query(statement="slow").read(
                PostgresTarget.model_validate(
                    {**settings(server), "statements": {"slow": {**STATEMENTS["slow"], "timeout": "20s"}}}
                ),
                looking(),
            )
        )
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.stop)
        with pytest.raises(TemporaryError):
            await slow
        with pytest.raises(TemporaryError):
            await Size().read(target, looking())
    finally:
        server.remove()


async def test_tls_is_verified(tmp_path: Path) -> None:
    """A certificate that nobody vouches for gets no password; with its authority it does."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
    server = one_postgres()
    for path, name in ((key, "server.key"), (certificate, "server.crt")):
        there = server.data / name
        there.write_bytes(path.read_bytes())
        there.chmod(0o600)
        owner = server.data.stat()
        await asyncio.to_thread(os.chown, there, owner.st_uid, owner.st_gid)
    sql(server, "ALTER SYSTEM SET ssl = on")
    sql(server, "SELECT pg_reload_conf()")
    try:
        await asyncio.sleep(0.3)
        with pytest.raises(PermanentError, match="not trusted") as caught:
            await Size().read(target_of(server, tls=True), looking())
        assert caught.value.reason == "tls"
        assert (await Size().read(target_of(server, tls=True, ca_file=str(certificate)), looking()))["bytes"] > 0
        with pytest.raises(PermanentError, match="cannot be used"):
            await Size().read(target_of(server, tls=True, ca_file=str(tmp_path / "missing.pem")), looking())
    finally:
        sql(server, "ALTER SYSTEM RESET ssl")
        sql(server, "SELECT pg_reload_conf()")
