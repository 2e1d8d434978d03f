"""Tests of the probe certificate.expiry, against a real nginx and real files."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.certificate.expiry import Expiry
from remediator.integrations.certificate.target import CertificateTarget
from tests.integrations.certificate.nginx import PERMIT, Authority, nginx
from tests.integrations.support import HandClock, looking
from tests.servers import free_port

WWW = Expiry(certificate="www")


def _now() -> Any:
    return looking(HandClock(time.time()))


def _file(path: Path) -> CertificateTarget:
    return CertificateTarget.model_validate({"certificates": {"www": {"file": str(path)}}, "permit": PERMIT})


async def test_what_a_server_presents() -> None:
    """Days left, names, issuer, and that a client would trust it."""
    with nginx(days=20) as server:
        evidence = await WWW.read(server.target(), _now())
    assert 19.9 < evidence["days_left"] <= 20
    assert (evidence["expired"], evidence["trusted"], evidence["problem"]) == (False, True, "")
    assert evidence["names"] == ["www.example.test", "127.0.0.1"]
    assert (evidence["subject"], evidence["issuer"]) == ("CN=www.example.test", "CN=test authority")
    assert len(evidence["fingerprint"]) == 64
    json.dumps(evidence, allow_nan=False)


async def test_an_expired_one_is_seen() -> None:
    """A certificate that every client refuses is still looked at, and says why it is refused."""
    with nginx(days=-1) as server:
        evidence = await WWW.read(server.target(), _now())
    assert evidence["expired"] is True
    assert evidence["days_left"] < 0
    assert evidence["trusted"] is False
    assert "expired" in evidence["problem"]


async def test_one_of_another_name_or_authority_is_not_trusted() -> None:
    """The name that is asked for must stand in it, and somebody must vouch for it."""
    with nginx(days=20) as server:
        www = {"address": f"127.0.0.1:{server.port}", "server_name": "other.example.test"}
        evidence = await WWW.read(server.target(certificates={"www": www}), _now())
        assert (evidence["trusted"], "mismatch" in evidence["problem"]) == (False, True)
        evidence = await WWW.read(server.target(ca_file=None), _now())
        assert evidence["trusted"] is False
        with pytest.raises(PermanentError, match="cannot be used"):
            await WWW.read(server.target(ca_file="/nowhere/ca.pem"), _now())


async def test_a_file(tmp_path: Path) -> None:
    """The first certificate of a PEM file; whether a client would trust it is not known."""
    file = Authority(tmp_path).issue("a", days=5)
    file.write_text("some words before\n" + file.read_text() + (tmp_path / "authority.pem").read_text())
    evidence = await WWW.read(_file(file), _now())
    assert 4.9 < evidence["days_left"] <= 5
    assert "trusted" not in evidence
    with pytest.raises(TemporaryError, match="cannot be read"):
        await WWW.read(_file(tmp_path / "missing.pem"), _now())
    for text in ("", "nothing", "-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n"):
        file.write_text(text)
        with pytest.raises(PermanentError):
            await WWW.read(_file(file), _now())


async def test_a_server_that_is_not_there_speaks_no_tls_or_hangs() -> None:
    """Each is temporary, and a hung one ends in time."""

    def at(port: int) -> CertificateTarget:
        base = {"certificates": {"www": {"address": f"127.0.0.1:{port}"}}, "timeout": "500ms"}
        return CertificateTarget.model_validate(base)

    with pytest.raises(TemporaryError) as refused:
        await WWW.read(at(free_port()), _now())
    assert refused.value.reason == "connect"

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    with pytest.raises(TemporaryError):
        await WWW.read(at(server.sockets[0].getsockname()[1]), _now())
    server.close()
    await server.wait_closed()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(TemporaryError, match="in time"):
            await WWW.read(at(silent.getsockname()[1]), _now())
        assert time.monotonic() - began < 2.5
    unknown = CertificateTarget.model_validate({"certificates": {"www": {"address": "nowhere.invalid:443"}}})
    with pytest.raises(TemporaryError, match="resolved"):
        await WWW.read(unknown, _now())


async def test_an_unknown_name_says_what_there_is() -> None:
    """The names of the settings are listed."""
    with pytest.raises(PermanentError, match="it has www"):
        await Expiry(certificate="other").read(_file(Path("/x")), _now())


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"address": "www.example.com"},
        {"address": "www.example.com:0"},
        {"address": "http://www.example.com:443"},
        {"address": "169.254.169.254:443"},
        {"address": "user@host:443"},
        {"address": "a:1", "file": "/x"},
        {"file": "relative.pem"},
        {"file": "/x", "server_name": "a"},
        {"address": "a:1", "server_name": "a b"},
        {"address": "a:1", "renew": {"argv": []}},
        {"address": "a:1", "renew": {"argv": ["bin/renew"]}},
        {"address": "a:1", "renew": {"argv": ["a\x00b"]}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    """No place, two places, addresses that are none or are never connected to, and half commands do not load."""
    with pytest.raises(ValidationError):
        CertificateTarget.model_validate({"certificates": {"www": wrong}})
