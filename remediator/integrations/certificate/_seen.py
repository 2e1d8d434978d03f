"""Looking at one certificate: by a handshake with its server, or in its file."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.clock import format_instant
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._address import is_forbidden
from remediator.integrations.certificate.target import Certificate, CertificateTarget

_LARGEST = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A certificate. Times are Unix seconds; ``problem`` says why a client would refuse it, None for a file."""

    fingerprint: str
    serial: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    problem: str | None

    def as_json(self, now: float) -> dict[str, Any]:
        """The certificate as evidence."""
        trust = {} if self.problem is None else {"trusted": not self.problem, "problem": self.problem}
        return {
            "days_left": round((self.not_after - now) / 86400, 3),
            "expired": now > self.not_after,
            "not_before": format_instant(self.not_before),
            "not_after": format_instant(self.not_after),
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "fingerprint": self.fingerprint,
            "serial": self.serial,
            **trust,
        }


def named(target: CertificateTarget, name: str) -> Certificate:
    """The certificate of that name. Raises PermanentError."""
    found = target.certificates.get(name)
    if found is None:
        known = ", ".join(sorted(target.certificates))
        raise PermanentError(f'the target has no certificate "{name}"; it has {known}', reason="certificate")
    return found


async def see(target: CertificateTarget, name: str) -> Seen:
    """The certificate as it is now. Raises TemporaryError, PermanentError."""
    certificate = named(target, name)
    if certificate.file is not None:
        return await asyncio.to_thread(_parsed, await asyncio.to_thread(_read, certificate.file), None)
    where = str(certificate.address)
    try:
        async with asyncio.timeout(target.timeout):
            raw, problem = await _presented(target, certificate)
    except TimeoutError:
        raise TemporaryError(f"{where} did not answer in time", reason="unanswered") from None
    except ssl.SSLError as error:
        raise TemporaryError(f"{where}: no TLS ({error.reason or error})", reason="tls") from None
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise TemporaryError(f"{where}: no connection ({detail})", reason="connect") from None
    return await asyncio.to_thread(_parsed, raw, problem)


async def _presented(target: CertificateTarget, certificate: Certificate) -> tuple[bytes, str]:
    """What the server presents, and why a client would refuse it (empty if it would not)."""
    address = await _resolved(certificate)
    try:
        strict = ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:
        raise PermanentError(f"ca_file {target.ca_file} cannot be used: {error}", reason="tls") from None
    try:
        return await _handshake(address, certificate, strict), ""
    except ssl.SSLCertVerificationError as error:
        # An expired certificate is what this look is for, so it is looked at without trusting it; nothing is sent.
        blind = ssl.create_default_context()
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        return await _handshake(address, certificate, blind), error.verify_message or str(error)


async def _resolved(certificate: Certificate) -> tuple[str, int]:
    """One address of the server; every one it has must be allowed."""
    host, port = certificate.host_and_port
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise TemporaryError(f"{host} cannot be resolved: {error.strerror}", reason="connect") from None
    for *_, place in found:
        if is_forbidden(str(place[0])):
            raise PermanentError(
                f"{place[0]} is a link-local or metadata address, which is always refused", reason="address"
            )
    return str(found[0][4][0]), port


async def _handshake(address: tuple[str, int], certificate: Certificate, context: ssl.SSLContext) -> bytes:
    _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=certificate.asked_for)
    try:
        raw: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if raw is None:
        raise TemporaryError(f"{certificate.address} presents no certificate", reason="tls")
    return raw


def _read(path: str) -> bytes:
    """The first certificate of a PEM file, as DER."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST).decode("ascii", errors="replace")
    except OSError as error:
        raise TemporaryError(f"{path} cannot be read: {error.strerror}", reason="file") from None
    begin = text.find("-----BEGIN CERTIFICATE-----")
    end = text.find("-----END CERTIFICATE-----", begin)
    try:
        if begin < 0 or end < 0:
            raise ValueError("no certificate")
        return ssl.PEM_cert_to_DER_cert(text[begin:end] + "-----END CERTIFICATE-----\n")
    except ValueError:
        raise PermanentError(f"{path} holds no certificate in PEM form", reason="file") from None


def _parsed(raw: bytes, problem: str | None) -> Seen:
    from cryptography import x509

    try:
        found = x509.load_der_x509_certificate(raw)
        return Seen(
            fingerprint=hashlib.sha256(raw).hexdigest(),
            serial=f"{found.serial_number:x}",
            subject=found.subject.rfc4514_string()[:500],
            issuer=found.issuer.rfc4514_string()[:500],
            names=_names(found),
            not_before=found.not_valid_before_utc.timestamp(),
            not_after=found.not_valid_after_utc.timestamp(),
            problem=problem,
        )
    except ValueError as error:
        raise PermanentError(f"the certificate cannot be read: {error}", reason="parse") from None


def _names(found: Any) -> tuple[str, ...]:
    from cryptography import x509

    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [*extension.get_values_for_type(x509.DNSName), *map(str, extension.get_values_for_type(x509.IPAddress))]
    return tuple(str(name)[:253] for name in names[:100])


def same(seen: Seen, shown: Mapping[str, Any]) -> bool:
    """Whether this is the certificate that a change showed."""
    return bool(seen.fingerprint == shown["fingerprint"])
