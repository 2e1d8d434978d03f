"""The settings of a target of kind ``email``."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from remediator.clock import Duration
from remediator.integrations._address import is_forbidden
from remediator.target import Target

_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _mailbox(text: str) -> str:
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("an address is written oncall@example.com, without a name and without <>")
    return text


Mailbox = Annotated[str, Field(max_length=320), AfterValidator(_mailbox)]
"""The address of one mailbox (RFC 5321, without quoted forms)."""


class EmailTarget(Target):
    """An SMTP server that takes mail from us: the relay of the company or of a provider."""

    lists: ClassVar[tuple[str, ...]] = ("recipients",)

    max_runs: int = Field(
        default=1000,
        ge=1,
        le=1000,
        description="How many runs may use one subject of this target at the same time; telling people needs no turn.",
    )
    host: str = Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$", description="Name or address of the SMTP server.")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Its port; 587 for starttls, 465 for tls and 25 for none if absent."
    )
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="`starttls`: encrypted before anything is said, or nothing is sent; `tls`: encrypted from the "
        "first byte; `none`: only for a relay on this machine or a trusted network.",
    )
    username: str | None = Field(default=None, max_length=500, description="Who we are to the server, if it asks.")
    password_file: str | None = Field(default=None, description="File with the password; read for every mail.")
    from_: Mailbox = Field(alias="from", description="The sender's address.")
    reply_to: Mailbox | None = Field(default=None, description="Where answers go, if not to the sender.")
    timeout: Duration = Field(default=20.0, gt=0, le=600, description="How long sending one mail may take.")
    ca_file: str | None = Field(
        default=None, description="Certificates to trust instead of the system's, in one PEM file."
    )

    @model_validator(mode="after")
    def _consistent(self) -> EmailTarget:
        if is_forbidden(self.host):
            raise ValueError(f"{self.host} is a link-local or metadata address, which is always refused")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("write username and password_file together, or neither")
        if self.username is not None and self.security == "none":
            raise ValueError("a password is never sent without encryption; use security: starttls or tls")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or _PORTS[self.security]
