"""A real nginx that serves a certificate of an authority of the test, and what renews it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remediator.integrations.certificate.target import CertificateTarget
from tests.servers import Server, free_port, program

PERMIT = {"actions": ["certificate.expiry", "certificate.renew"], "certificates": ["*"]}


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A certificate authority in a folder; ``pem`` is its own certificate."""

    folder: Path
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(_name("test authority"), _name("test authority"), self.key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - timedelta(days=2))
        builder = builder.not_valid_after(now + timedelta(days=3000))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        made = builder.sign(self.key, hashes.SHA256())
        self.pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    @property
    def pem(self) -> Path:
        """The certificate to trust."""
        return self.folder / "authority.pem"

    def issue(self, name: str, days: float, *, host: str = "www.example.test") -> Path:
        """``name.pem`` and ``name.key``, good from two days ago until ``days`` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(_name("test authority"), _name(host), key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=2))
        builder = builder.not_valid_after(now + timedelta(days=days))
        names = [x509.DNSName(host), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self.key, hashes.SHA256())
        file = self.folder / f"{name}.pem"
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        file.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file


@dataclass
class Nginx:
    """A running server that serves ``live.pem`` of its folder."""

    authority: Authority
    port: int
    server: Server

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return self.authority.folder

    def renewal(self, new: str = "new", *, reload: bool = True) -> dict[str, Any]:
        """A renewal as certbot's: it puts the new files in their place and lets nginx load them; it counts itself."""
        script = 'echo renewed >> count && cp "$1.key" live.key && cp "$1.pem" live.pem'
        script += ' && kill -HUP "$2"' if reload else ""
        return {"argv": ["/bin/sh", "-c", script, "renew", new, str(self.server.pid)]}

    def count(self) -> int:
        """How often a renewal ran."""
        found = self.folder / "count"
        return len(found.read_text().splitlines()) if found.exists() else 0

    def target(self, *, renew: dict[str, Any] | None = None, **more: Any) -> CertificateTarget:
        """The server's certificate as ``www`` of a target."""
        www: dict[str, Any] = {"address": f"127.0.0.1:{self.port}", "server_name": "www.example.test"}
        if renew is not None:
            www["renew"] = {"timeout": "5s", **renew}
        base = {
            "certificates": {"www": www},
            "ca_file": str(self.authority.pem),
            "directory": str(self.folder),
            "timeout": "3s",
            "permit": PERMIT,
        }
        return CertificateTarget.model_validate({**base, **more})


@contextmanager
def nginx(days: float, *, host: str = "www.example.test") -> Iterator[Nginx]:
    """nginx with a certificate that is good for that many more days."""
    folder = Path(tempfile.mkdtemp(prefix="remediator-nginx-"))
    authority = Authority(folder)
    authority.issue("live", days, host=host)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; master_process on; worker_processes 1; pid {folder}/pid; error_log stderr warn;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n"
        f"fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/live.pem;\n"
        f"ssl_certificate_key {folder}/live.key; return 200; }} }}\n"
    )
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(name="nginx", url=f"https://127.0.0.1:{port}", directory=folder, log=log, process=process)
    try:
        _wait(server, port)
        yield Nginx(authority, port, server)
    finally:
        server.kill(signal.SIGCONT)
        server.stop()


def _wait(server: Server, port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert server.running, server.log_tail()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(server.log_tail())
