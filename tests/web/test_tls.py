"""Proves that --web.config.file gives HTTPS of today, follows new certificates, and asks clients for theirs."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remediator.clock import SystemClock
from remediator.errors import InputError
from remediator.ids import SystemIds
from remediator.stores.sqlite import SqliteStore
from remediator.web.server import Server, start
from remediator.web.service import WebOptions
from remediator.web.tls import tls_context
from tests.web.site import RealService

CONFIG = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"


def _certificate(folder: Path, name: str, made: str) -> None:
    """Puts the certificate ``made`` and its key into ``folder`` as ``name``.pem and ``name``.key."""
    for kind in ("pem", "key"):
        shutil.copyfile(Path(__file__).parent / "tls" / f"{made}.{kind}", folder / f"{name}.{kind}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and the certificate that it names."""
    _certificate(tmp_path, "server", "server")
    (tmp_path / "web.yml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    """A server that speaks TLS by the configuration in the folder, as a test left it there."""
    clock = SystemClock()
    store = SqliteStore(":memory:", clock=clock, ids=SystemIds(clock))
    await store.open()
    service = RealService(store, clock, WebOptions())
    running = await start(service, host="127.0.0.1", port=0, ssl=tls_context(str(folder / "web.yml")))
    yield running
    await running.stop()
    await store.close()


def _client(folder: Path, authority: str = "server") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / f"{authority}.pem"))


async def _get(server: Server, context: ssl.SSLContext) -> tuple[bytes, str]:
    """The status line, and the version of TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        await reader.read()
        return line, str(writer.get_extra_info("ssl_object").version())
    finally:
        writer.close()


async def test_https_with_modern_versions_only(server: Server, folder: Path) -> None:
    """A client that knows the authority is served; one that speaks only TLS 1.1 is not."""
    assert await _get(server, _client(folder)) == (b"HTTP/1.1 200 OK\r\n", "TLSv1.3")
    context = _client(folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await _get(server, context))[1] == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        await _get(server, ssl.create_default_context())


async def test_a_replaced_certificate_is_used_without_a_restart(server: Server, folder: Path) -> None:
    """Once the files have changed, new connections get the new certificate; a broken file leaves the old one."""
    await _get(server, _client(folder))
    old = (folder / "server.pem").read_bytes()
    _certificate(folder, "server", "second")
    (folder / "old.pem").write_bytes(old)
    await _get(server, _client(folder, "old"))  # This handshake notices the change and is still made with the old one.
    await _get(server, _client(folder))
    with pytest.raises(ssl.SSLCertVerificationError):
        await _get(server, _client(folder, "old"))
    good = (folder / "server.pem").read_bytes()
    (folder / "good.pem").write_bytes(good)
    (folder / "server.pem").write_text("half a certifi")
    assert (await _get(server, _client(folder, "good")))[0] == b"HTTP/1.1 200 OK\r\n"
    assert (await _get(server, _client(folder, "good")))[0] == b"HTTP/1.1 200 OK\r\n"


async def test_clients_must_show_a_certificate_where_it_is_asked(folder: Path) -> None:
    """With RequireAndVerifyClientCert only clients of the named authority are served."""
    _certificate(folder, "client", "client")
    (folder / "web.yml").write_text(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: client.pem\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\n"
    )
    clock = SystemClock()
    store = SqliteStore(":memory:", clock=clock, ids=SystemIds(clock))
    await store.open()
    service = RealService(store, clock, WebOptions())
    running = await start(service, host="127.0.0.1", port=0, ssl=tls_context(str(folder / "web.yml")))
    try:
        known = _client(folder)
        known.load_cert_chain(folder / "client.pem", folder / "client.key")
        assert (await _get(running, known))[0] == b"HTTP/1.1 200 OK\r\n"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            assert (await _get(running, _client(folder)))[0] == b""
            raise ConnectionError("closed without an answer")
    finally:
        await running.stop()
        await store.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("basic_auth_users: {a: b}", "use bearer tokens"),
        ("http_server_config: {http2: false}", "HTTP/1.1 is spoken"),
        ("tls_server_config: {cert_file: server.pem}", "key_file"),
        ("tls_server_config: {cert_file: none.pem, key_file: server.key}", "cert_file and key_file: cannot be used"),
        ("tls_server_config: {cert_file: server.pem, key_file: server.pem}", "cert_file and key_file: cannot be used"),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequestClientCert}", "client_auth_type"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: VerifyClientCertIfGiven}",
            "needs client_ca_file",
        ),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}", "min_version"),
        ("tls_server_confg: {}", "tls_server_config"),
        ("- a", "web.yml"),
    ],
)
def test_what_is_not_offered_or_wrong_is_told(folder: Path, text: str, told: str) -> None:
    """What exporter-toolkit knows and this does not, and every mistake, is refused with what to write instead."""
    (folder / "web.yml").write_text(text)
    with pytest.raises(InputError) as caught:
        tls_context(str(folder / "web.yml"))
    assert told in str(caught.value)


def test_a_file_without_tls_asks_for_none(folder: Path) -> None:
    """An empty file means plain HTTP; a file that is not there is an error."""
    (folder / "web.yml").write_text("")
    assert tls_context(str(folder / "web.yml")) is None
    with pytest.raises(InputError, match="cannot be read"):
        tls_context(str(folder / "none.yml"))
