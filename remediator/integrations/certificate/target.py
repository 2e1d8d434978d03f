"""The settings of a target of kind ``certificate``: which certificates there are, and what renews them."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from remediator.clock import Duration
from remediator.integrations._address import is_forbidden
from remediator.integrations._secret import read_secret
from remediator.target import Target

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,100}$")]
"""The name of a certificate in the settings."""
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_ONLY_TRIES = frozenset({"--dry-run", "--staging", "--test-cert", "--test"})
_CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def _argv(argv: list[str]) -> list[str]:
    program = argv[0]
    if not program or ("/" in program and not program.startswith("/")):
        raise ValueError("it begins with an absolute path or a name on PATH")
    if any("\x00" in token for token in argv):
        raise ValueError("arguments hold no NUL character")
    return argv


class Renewal(BaseModel):
    """The command that renews one certificate, and lets the server load it. An argument list, never a shell line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    argv: list[str] = Field(min_length=1, max_length=100, description="Program and arguments.")
    dry_run: list[str] | None = Field(
        default=None, min_length=1, max_length=100, description="Tried first; what it cannot do is not begun."
    )
    timeout: Duration = Field(default=300.0, gt=0, le=3600, description="How long each of the two may take.")

    @field_validator("argv")
    @classmethod
    def _renews(cls, argv: list[str]) -> list[str]:
        if tries := _ONLY_TRIES & set(argv):
            raise ValueError(f'"{min(tries)}" renews nothing; write such a command as dry_run')
        return _argv(argv)

    @field_validator("dry_run")
    @classmethod
    def _tries(cls, argv: list[str] | None) -> list[str] | None:
        return None if argv is None else _argv(argv)


class Certificate(BaseModel):
    """One certificate: what a server presents, or what stands in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    address: str | None = Field(
        default=None, max_length=300, description="`host:port` of the server that presents it, by TLS from the start."
    )
    server_name: str | None = Field(
        default=None, max_length=253, description="The name that is asked for; the host of the address if absent."
    )
    file: str | None = Field(default=None, max_length=1000, description="Absolute path of a PEM file instead.")
    renew: Renewal | None = Field(default=None, description="What renews it.")

    @field_validator("address")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        if _HOST.fullmatch(host) is None or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("write host:port, such as www.example.com:443 or [2001:db8::1]:443")
        if is_forbidden(host):
            raise ValueError(f"{host} is a link-local or metadata address, which is always refused")
        return address

    @field_validator("server_name")
    @classmethod
    def _server_name(cls, name: str | None) -> str | None:
        if name is not None and (_HOST.fullmatch(name) is None or name.startswith("[")):
            raise ValueError("server_name is a host name, such as www.example.com")
        return name

    @field_validator("file")
    @classmethod
    def _file(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith("/") or "\x00" in path):
            raise ValueError("file must be an absolute path")
        return path

    @model_validator(mode="after")
    def _one_place(self) -> Certificate:
        if (self.address is None) == (self.file is None):
            raise ValueError("write address, or file")
        if self.file is not None and self.server_name is not None:
            raise ValueError("server_name goes with address")
        return self

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where the server is, an IPv6 host without its brackets. Only with ``address``."""
        host, _, port = (self.address or "").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def asked_for(self) -> str:
        """The name that must stand in what the server presents."""
        return self.server_name or self.host_and_port[0]


class CertificateTarget(Target):
    """Certificates of this organisation. Rules choose one by name; addresses and commands stand here."""

    lists: ClassVar[tuple[str, ...]] = ("certificates",)

    certificates: dict[Name, Certificate] = Field(min_length=1, description="The certificates, by the name rules use.")
    ca_file: str | None = Field(default=None, description="Authorities to trust instead of the system's, one PEM file.")
    timeout: Duration = Field(default=10.0, gt=0, le=120, description="How long looking at one may take.")
    directory: str = Field(default="/", description="Absolute path of the directory in which renewals run.")
    environment: dict[Variable, str] = Field(
        default_factory=dict, description="Environment of renewals on top of PATH and LANG; no secrets here."
    )
    environment_files: dict[Variable, str] = Field(
        default_factory=dict, description="Variables whose values are secrets: name to absolute path, read every time."
    )

    @field_validator("directory")
    @classmethod
    def _directory(cls, path: str) -> str:
        if not path.startswith("/") or "\x00" in path:
            raise ValueError("directory must be an absolute path")
        return path

    @field_validator("environment_files")
    @classmethod
    def _environment_files(cls, files: dict[str, str]) -> dict[str, str]:
        for name, path in files.items():
            if not path.startswith("/") or "\x00" in path:
                raise ValueError(f"environment_files.{name} must be an absolute path")
        return files

    def surroundings(self) -> tuple[dict[str, str], list[str]]:
        """The environment of a renewal, and those of its values that must not be shown.

        Raises PermanentError or TemporaryError when a secret cannot be read.
        """
        secrets = {
            name: read_secret(path, f"environment_files.{name}") for name, path in self.environment_files.items()
        }
        return {**_CLEAN, **self.environment, **secrets}, [secret for secret in secrets.values() if len(secret) >= 4]
