"""Tests of the redis target: what its settings refuse, how it gets in, and what every failure means."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.redis.ping import Ping
from remediator.integrations.redis.set_key import SetKey
from remediator.integrations.redis.target import RedisTarget
from tests.integrations.redis.servers import PERMIT, one_server, sentinel, target_of
from tests.integrations.support import acting, looking
from tests.redis import redis_server
from tests.servers import free_port


@pytest.mark.parametrize(
    "settings",
    [
        {"addresses": []},
        {"addresses": ["redis"]},
        {"addresses": ["redis:0"]},
        {"addresses": ["redis:99999"]},
        {"addresses": ["a b:6379"]},
        {"addresses": ["user:secret@redis:6379"]},
        {"addresses": ["a:1", "b:1"]},
        {"addresses": ["a:1", "a:1"], "mode": "cluster"},
        {"addresses": ["a:1"], "mode": "cluster", "database": 1},
        {"addresses": ["a:1"], "mode": "sentinel"},
        {"addresses": ["a:1"], "master": "main"},
        {"addresses": ["a:1"], "sentinel_password_file": "/x"},
        {"addresses": ["a:1"], "ca_file": "/x"},
        {"addresses": ["a:1"], "password": "canary"},
        {"addresses": ["a:1"], "breakers": {"x": {"key": "no place"}}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    """Contradictions, half addresses and secrets in the settings do not load."""
    with pytest.raises(ValidationError):
        RedisTarget.model_validate(settings)


async def test_wrong_credentials_are_permanent_and_the_password_is_never_shown(tmp_path: Path) -> None:
    """No password, a wrong one, and the right one, which is read anew for every connection."""
    secret = tmp_path / "password"
    with redis_server("--requirepass", "canary-right") as server:
        with pytest.raises(PermanentError, match="credentials") as caught:
            await Ping().read(target_of(server), looking())
        assert caught.value.reason == "credentials"
        target = target_of(server, password_file=str(secret))
        secret.write_text("canary-wrong")
        with pytest.raises(PermanentError, match="credentials") as caught:
            await Ping().read(target, looking())
        assert "canary" not in str(caught.value) + repr(caught.value.__context__)
        secret.write_text("canary-right\n")
        assert (await Ping().read(target, looking()))["pong"] is True
        assert "canary" not in repr(target)


async def test_what_the_user_may_not_do_is_permanent_and_did_not_happen(tmp_path: Path) -> None:
    """A user without the right to run scripts is told so, and the key keeps its value."""
    secret = tmp_path / "password"
    secret.write_text("canary-reader")
    with redis_server() as server:
        server.tell("ACL", "SETUSER", "reader", "on", ">canary-reader", "~*", "+@read", "+@connection", "+info")
        server.tell("SET", "feature:rpc", "primary")
        target = target_of(server, username="reader", password_file=str(secret))
        action = SetKey(key="feature:rpc", value="fallback")
        change = await action.diff(target, acting())
        with pytest.raises(PermanentError, match="may not") as caught:
            await action.apply(target, change, acting())
        assert caught.value.reason == "permission"
        assert server.tell("GET", "feature:rpc") == "$7\r\nprimary\r\n"


async def test_a_server_that_is_not_there_is_temporary() -> None:
    """A refused connection and an unknown name did nothing and may be tried again."""
    for address in (f"127.0.0.1:{free_port()}", "nowhere.invalid:6379"):
        with pytest.raises(TemporaryError) as caught:
            await Ping().read(RedisTarget(addresses=[address]), looking())
        assert caught.value.reason == "connect"


async def test_a_hung_server_ends_within_its_time_out() -> None:
    """A server that is stopped mid-life costs a look the time-out and no more, and an action is unknown by then."""
    with redis_server() as server:
        server.tell("SET", "feature:rpc", "primary")
        target = target_of(server, timeout="500ms")
        action = SetKey(key="feature:rpc", value="fallback")
        change = await action.diff(target, acting())
        server.freeze()
        try:
            for call in (Ping().read(target, looking()), action.apply(target, change, acting())):
                began = time.monotonic()
                with pytest.raises(TemporaryError, match="in time"):
                    await call
                assert time.monotonic() - began < 2.5
        finally:
            server.thaw()
        assert server.tell("GET", "feature:rpc") == "$7\r\nprimary\r\n"


class _Between:
    """A TCP proxy to a server that swallows whatever comes after the scripts' EVAL has passed, and its answer."""

    def __init__(self, port: int, word: bytes, close: bool) -> None:
        self.port, self.word, self.close = port, word, close

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        there, onwards = await asyncio.open_connection("127.0.0.1", self.port)
        seen = asyncio.Event()

        async def back() -> None:
            while (data := await there.read(65536)) and not seen.is_set():
                writer.write(data)
            if self.close:
                writer.close()

        task = asyncio.create_task(back())
        try:
            while data := await reader.read(65536):
                if self.word in data:
                    seen.set()
                onwards.write(data)
        except ConnectionError:
            pass
        finally:
            onwards.close()
            await task
            writer.close()


@pytest.mark.parametrize("close", [True, False], ids=["connection breaks", "no answer"])
async def test_an_action_whose_answer_is_lost_is_unknown_and_not_sent_twice(close: bool) -> None:
    """The command left and took effect, and no answer came: neither word of certainty is used, and looking tells."""
    server = one_server()
    server.tell("SET", "feature:rpc", "primary")
    proxy = await asyncio.start_server(_Between(server.port, b"EVAL", close), "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    target = target_of(server, addresses=[f"127.0.0.1:{port}"], timeout="500ms")
    action = SetKey(key="feature:rpc", value="fallback")
    try:
        change = await action.diff(target, acting())
        with pytest.raises(Unanswered):
            await action.apply(target, change, acting())
    finally:
        proxy.close()
        await proxy.wait_closed()
    assert (await action.reconcile(target_of(server), change, acting())).value == "yes"


async def test_the_master_is_the_one_that_the_sentinels_know(tmp_path: Path) -> None:
    """The way in is asked anew every time: after a fail-over the new master is meant; an unknown name is temporary."""
    with redis_server() as first, redis_server() as second:
        second.tell("REPLICAOF", "127.0.0.1", str(first.port))
        with sentinel(first, tmp_path) as address:
            target = RedisTarget(addresses=[address], mode="sentinel", master="main", permit=PERMIT)
            assert (await Ping().read(target, looking()))["node"] == f"127.0.0.1:{first.port}"
            first.kill()
            node, evidence = "", {}
            for _ in range(150):
                try:
                    evidence = dict(await Ping().read(target, looking()))
                    node = evidence["node"]
                except ActionError as error:
                    assert isinstance(error, TemporaryError)
                if node == f"127.0.0.1:{second.port}":
                    break
                await asyncio.sleep(0.1)
            assert (node, evidence["role"]) == (f"127.0.0.1:{second.port}", "master")
            other = RedisTarget(addresses=[address], mode="sentinel", master="other")
            with pytest.raises(TemporaryError):
                await Ping().read(other, looking())


async def test_tls_is_verified(tmp_path: Path) -> None:
    """A certificate that nobody vouches for gets no command; with its authority it does."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
    port = free_port()
    flags = ["--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"]
    with redis_server(*flags, "--tls-ca-cert-file", certificate):
        address = f"127.0.0.1:{port}"
        with pytest.raises(PermanentError, match="not trusted") as caught:
            await Ping().read(RedisTarget(addresses=[address], tls=True), looking())
        assert caught.value.reason == "tls"
        trusting = RedisTarget(addresses=[address], tls=True, ca_file=str(certificate))
        assert (await Ping().read(trusting, looking()))["pong"] is True


async def test_a_node_that_is_no_node_is_never_connected_to() -> None:
    """A label that becomes a node leads nowhere but to what the target itself is."""
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.settimeout(0.1)
        with pytest.raises(PermanentError, match="not the server"):
            await Ping(node=f"127.0.0.1:{trap.getsockname()[1]}").read(target_of(one_server()), looking())
        with pytest.raises(TimeoutError):
            trap.accept()
