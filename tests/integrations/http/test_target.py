"""Tests of the settings of a target of kind http."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.http.get import Get
from remediator.integrations.http.target import HttpTarget
from tests.integrations.support import looking, reply, wire


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "example.com",
        "http://",
        "http://user:pw@example.com",
        "http://example.com?x=1",
        "http://example.com#top",
        "http://example.com/a/../b",
        "http://exa mple.com",
        "http://example.com:port",
        "http://exämple.com",
        "http://example.com\\@evil.example",
    ],
)
def test_a_base_url_is_an_address_and_nothing_else(url: str) -> None:
    """User, query, fragment, dot segments and other schemes are refused when the settings are loaded."""
    with pytest.raises(ValidationError, match="base_url"):
        HttpTarget(base_url=url)


@pytest.mark.parametrize("name", ["Authorization", "cookie", "Host", "Content-Length", "X: y", "", "X\r\nY"])
def test_headers_of_ours_cannot_be_set(name: str) -> None:
    """Credentials go into a file, framing is the client's, and no header name holds a line break."""
    with pytest.raises(ValidationError, match="bearer_token_file"):
        HttpTarget(base_url="http://example.com", headers={name: "x"})


def test_header_values_hold_no_line_break() -> None:
    """A value cannot begin another header."""
    with pytest.raises(ValidationError, match="printable"):
        HttpTarget(base_url="http://example.com", headers={"X-Team": "a\r\nX-Other: b"})
    with pytest.raises(ValidationError, match="idempotency_header"):
        HttpTarget(base_url="http://example.com", idempotency_header="Host")


async def test_the_token_is_sent_rotated_and_never_shown(tmp_path: Path) -> None:
    """Each request carries the token in the file at that moment, and an echo of it is redacted."""
    token = tmp_path / "token"
    token.write_text("canary-one\n")
    async with wire(
        lambda request: reply(body=b'{"you_sent": "%s"}' % request.headers["authorization"].encode())
    ) as it:
        target = HttpTarget(base_url=it.url, bearer_token_file=str(token), headers={"X-Team": "minting"})
        evidence = await Get(path="/echo").read(target, looking())
        token.write_text("canary-two\n")
        await Get(path="/echo").read(target, looking())
        await target.close()
    assert [request.headers["authorization"] for request in it.received] == ["Bearer canary-one", "Bearer canary-two"]
    assert it.received[0].headers["x-team"] == "minting"
    assert evidence["json"] == {"you_sent": "Bearer [redacted]"}
    assert "canary" not in repr(target)


async def test_a_token_with_a_line_break_is_refused_before_sending(tmp_path: Path) -> None:
    """A broken token file cannot inject a header, and the message does not show it."""
    token = tmp_path / "token"
    token.write_text("canary\r\nX-Other: b")
    async with wire() as it:
        target = HttpTarget(base_url=it.url, bearer_token_file=str(token))
        with pytest.raises(PermanentError, match="one line") as caught:
            await Get(path="/").read(target, looking())
        token.unlink()
        with pytest.raises(TemporaryError, match="cannot be read"):
            await Get(path="/").read(target, looking())
        await target.close()
    assert it.received == []
    assert "canary" not in str(caught.value)


async def test_a_missing_ca_file_is_named() -> None:
    """A ca_file that is not there stops the request with its name, and nothing is sent unverified."""
    target = HttpTarget(base_url="https://127.0.0.1:1", ca_file="/nowhere/ca.pem")
    with pytest.raises(PermanentError, match=r"ca_file /nowhere/ca\.pem"):
        await Get(path="/").read(target, looking())


async def test_a_server_without_a_trusted_certificate_is_refused(tmp_path: Path) -> None:
    """TLS is verified: a self-signed server gets no byte of the request, and with its CA it does."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    process = await asyncio.to_thread(
        subprocess.run,
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=True,
    )
    assert process.returncode == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    strict, trusting = HttpTarget(base_url=url), HttpTarget(base_url=url, ca_file=str(certificate))
    try:
        with pytest.raises(PermanentError, match="not trusted") as caught:
            await Get(path="/").read(strict, looking())
        assert (caught.value.reason, seen) == ("tls", [])
        assert (await Get(path="/").read(trusting, looking()))["status"] == 200
    finally:
        await strict.close()
        await trusting.close()
        server.close()
        await server.wait_closed()
