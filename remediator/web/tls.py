"""``--web.config.file``: TLS as Prometheus' exporter-toolkit writes it, as far as it is offered here.

Source: github.com/prometheus/exporter-toolkit, docs/web-configuration.md.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remediator.document import Document, load_document
from remediator.errors import InputError
from remediator.log import logger
from remediator.problem import ProblemsError
from remediator.validation import model_problems

_log = logger("web")

LATER = {
    ("", "basic_auth_users"): "use bearer tokens: intake.tokens_file and users in the settings",
    ("", "http_server_config"): "leave it out; HTTP/1.1 is spoken, and careful headers are always sent",
    ("tls_server_config", "cipher_suites"): "leave it out; OpenSSL's own choice for TLS 1.2 and 1.3 is used",
    ("tls_server_config", "max_version"): "leave it out; the newest version both sides know is used",
}
"""What exporter-toolkit has and this does not, and what to write instead."""

_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TlsServer(_Part):
    """Certificates of the server, and what it asks of clients."""

    cert_file: str = Field(min_length=1, description="The certificate and those between it and the authority, PEM.")
    key_file: str = Field(min_length=1, description="The private key, PEM.")
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = Field(
        default="NoClientCert", description="Whether clients must show a certificate of client_ca_file."
    )
    client_ca_file: str | None = Field(default=None, description="Authorities of client certificates, PEM.")
    min_version: Literal["TLS12", "TLS13"] = Field(default="TLS12", description="The oldest version that is spoken.")


class WebConfig(_Part):
    """The whole file."""

    tls_server_config: TlsServer | None = Field(default=None, description="Serve HTTPS with these certificates.")


def tls_context(path: str) -> ssl.SSLContext | None:
    """The context that the file at ``path`` describes, or None where it asks for no TLS.

    A replaced certificate is used from the next connections on, without a restart. Raises InputError.
    """
    config = _read(path)
    if config.tls_server_config is None:
        return None
    return _Certificates(config.tls_server_config, Path(path).parent).context


def _read(path: str) -> WebConfig:
    try:
        document: Document = load_document(path, Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return WebConfig.model_validate({} if document.data is None else document.data)
    except ValidationError as error:
        problems = model_problems(document, (), WebConfig, error, later=LATER, later_id="settings/later")
        raise ProblemsError(problems) from None


class _Certificates:
    """A context whose certificate follows its files."""

    def __init__(self, server: TlsServer, folder: Path) -> None:
        self._files = (folder / server.cert_file, folder / server.key_file)
        self._seen: tuple[int, ...] = ()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        newest = server.min_version == "TLS13"
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest else ssl.TLSVersion.TLSv1_2
        self.context.verify_mode = _CLIENTS[server.client_auth_type]
        if self.context.verify_mode is not ssl.CERT_NONE:
            if server.client_ca_file is None:
                raise InputError(f"client_auth_type {server.client_auth_type} needs client_ca_file")
            _load(lambda: self.context.load_verify_locations(folder / str(server.client_ca_file)), "client_ca_file")
        self._refresh()
        # Called for each handshake; what it loads serves the handshakes after this one.
        self.context.sni_callback = self._follow

    def _refresh(self) -> None:
        now = tuple(file.stat().st_mtime_ns for file in self._files if file.exists())
        if now != self._seen:
            _load(lambda: self.context.load_cert_chain(*self._files), "cert_file and key_file")
            self._seen = now

    def _follow(self, _socket: object, _name: object, _context: object) -> None:
        try:
            self._refresh()
        except (InputError, OSError) as error:
            _log.error("the new certificate is not usable; the old one stays", error=str(error))


def _load(load: Callable[[], None], what: str) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{what}: cannot be used: {error.strerror or error}") from None
