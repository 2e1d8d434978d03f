"""What may stand in ``remediator.yaml``: every key with its type, default, bounds and description."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from remediator.clock import Duration
from remediator.escalation import Call
from remediator.integrations._size import Size
from remediator.rule import Mode

DEFAULT_PORT = 9095


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Web(_Part):
    """Where the service listens, and what people call it."""

    listen_address: str = Field(
        default=f"127.0.0.1:{DEFAULT_PORT}",
        description="host:port, [ipv6]:port or :port. Only loopback unless intake.tokens_file or users is set.",
    )
    external_url: str = Field(default="", description="The address that links in messages begin with.")

    @field_validator("listen_address")
    @classmethod
    def _address(cls, text: str) -> str:
        split_address(text)
        return text

    @field_validator("external_url")
    @classmethod
    def _url(cls, text: str) -> str:
        parts = urlsplit(text)
        if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
            raise ValueError(f'"{text}" is not an address like https://remediator.example.com')
        if "@" in parts.netloc:
            raise ValueError("the address may hold no user and no password")
        return text.rstrip("/")

    @property
    def host(self) -> str:
        """The host to listen on; ``""`` is every address of the machine."""
        return split_address(self.listen_address)[0]

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return split_address(self.listen_address)[1]

    @property
    def loopback(self) -> bool:
        """True when only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Storage(_Part):
    """Where durable state lives."""

    url: str = Field(
        default="sqlite:remediator.db",
        description="sqlite:///absolute/path or sqlite:relative/path of the database file, for one replica;"
        " postgresql://user@host:5432/database for several.",
    )
    password_file: str | None = Field(
        default=None, description="PostgreSQL: file with the password, read for every new connection."
    )
    schema_: str = Field(
        default="remediator",
        alias="schema",
        pattern=r"^[a-z_][a-z0-9_]{0,39}$",
        description="PostgreSQL: the schema that holds the tables.",
    )
    pool_size: int = Field(default=10, ge=2, le=100, description="PostgreSQL: connections of one replica.")
    migrate: bool = Field(
        default=True,
        description="Bring the schema up to date at start; false refuses to start until `remediator migrate` was run.",
    )
    retention: Duration | None = Field(
        default=None,
        ge=86400,
        description="How long ended runs, deliveries and the audit are kept, such as 400d; for ever if absent.",
    )

    @field_validator("url")
    @classmethod
    def _url(cls, text: str) -> str:
        scheme, _, rest = text.partition(":")
        if scheme in ("postgresql", "postgres"):
            return text
        if scheme != "sqlite":
            raise ValueError(
                "not a database address; write sqlite:///path/to/remediator.db or postgresql://user@host:5432/database"
            )
        if "?" in rest or "#" in rest:
            raise ValueError("a database address has no options; write sqlite:///path/to/remediator.db")
        if (rest.startswith("//") and not rest.startswith("///")) or not rest.strip("/"):
            raise ValueError("the path of the database is missing; write sqlite:///path/to/remediator.db")
        return text

    @property
    def postgres(self) -> bool:
        """Whether the store is a PostgreSQL, which several replicas can share."""
        return self.url.startswith("postgres")

    @property
    def path(self) -> FilePath:
        """The database file of a SQLite store. Raises ValueError for any other."""
        if self.postgres:
            raise ValueError(f"{self.url} is no file")
        rest = unquote(self.url.partition(":")[2])
        return FilePath("/" + rest.lstrip("/")) if rest.startswith("/") else FilePath(rest)


class Redis(_Part):
    """A Redis beside the store, which makes some answers come sooner and decides nothing."""

    url: str = Field(description="redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/of/socket.")
    password_file: str | None = Field(
        default=None, description="File with its password; a user name stands in the url, as redis://user@host."
    )
    timeout: Duration = Field(default=0.3, ge=0.01, le=1, description="How long anybody waits for its answer.")
    prefix: str = Field(
        default="remediator",
        pattern=r"^[A-Za-z0-9_.-]{1,40}$",
        description="What its keys and channels begin with; another one for each installation on the same server.",
    )

    @field_validator("url")
    @classmethod
    def _url(cls, text: str) -> str:
        wrong = ValueError("not the address of a Redis; write redis://host:6379/0, rediss://… or unix:///path")
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port  # A port that is no number raises here.
        except ValueError:
            raise wrong from None
        if parts.scheme == "unix" and parts.path.strip("/") and not parts.query:
            return text
        if parts.scheme not in ("redis", "rediss") or not host:
            raise wrong
        if parts.query or parts.fragment or not re.fullmatch(r"/?[0-9]{0,5}", parts.path):
            raise ValueError("after the host stands only the number of the database, as in redis://host:6379/0")
        return text


class Intake(_Part):
    """What is accepted from Alertmanager."""

    tokens_file: str | None = Field(
        default=None,
        description="Bearer tokens that may deliver, one on each line; two at once while one is replaced.",
    )
    drop_labels: list[str] = Field(
        default_factory=list,
        description="Labels that do not tell incidents apart, such as pod and instance.",
    )
    max_body: Size = Field(default=1 << 20, ge=1024, le=64 << 20, description="The largest body that is read.")
    max_alerts: int = Field(default=2000, ge=1, le=100_000, description="The most alerts in one body.")
    backlog: int = Field(
        default=10_000, ge=1, le=10_000_000, description="Runs that may wait before deliveries get a 503."
    )
    tolerance: Duration = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="How far start times of one alert may lie apart (two Prometheus servers).",
    )


class Worker(_Part):
    """How runs are carried out."""

    concurrency: int = Field(default=64, ge=1, le=1000, description="Runs that are carried out at the same time.")
    lease: Duration = Field(
        default=30.0, ge=5, le=600, description="How long a run is this process's alone, unless renewed."
    )
    poll: Duration = Field(
        default=1.0, ge=0.05, le=60, description="How often due runs are looked for when nothing wakes."
    )
    grace: Duration = Field(default=25.0, ge=0, le=600, description="How long a stop waits for steps under way.")


class Approvals(_Part):
    """How questions to people are asked where a rule does not say it."""

    expires: Duration = Field(default=900.0, gt=0, description="How long a question stays open.")
    notify: str = Field(default="", description="An escalation policy that tells people about every open question.")


class Audit(_Part):
    """How the audit is protected against the loss of the store."""

    checkpoint_file: str | None = Field(
        default=None,
        description="Where the size and head of the audit are kept outside the store; beside a SQLite file if absent.",
    )


class DisruptionBudget(_Part):
    """How much of a service its rules may disturb at once, together; see the guard ``budget``."""

    runs: int = Field(default=1, ge=1, le=1000, description="How many runs may disturb the service at once.")
    settle: Duration = Field(default=600.0, gt=0, description="How long after its end a run still counts.")


def _runs(value: Any) -> Any:
    return {"runs": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Service(_Part):
    """A service in its own words."""

    severities: dict[str, str] = Field(
        default_factory=dict, description="Value of the alert's severity label → what this service calls it (SEV1)."
    )
    disruption_budget: Annotated[DisruptionBudget | None, BeforeValidator(_runs)] = Field(
        default=None, description="How much of it may be disturbed at once; stands before each of its rules."
    )


class User(_Part):
    """Somebody who may use the API and the commands."""

    role: Literal["viewer", "operator", "approver", "admin"] = Field(
        description="viewer: read; operator: pause, cancel, retry; approver: also approve; admin: everything."
    )
    token_file: str = Field(description="File with the bearer token of this user; never the token itself.")
    slack_id: str | None = Field(
        default=None,
        pattern=r"^[UW][A-Z0-9]{2,20}$",
        description="The person's id in Slack (`U…`): answers to questions in Slack count as this user's.",
    )


class SettingsFile(_Part):
    """The settings as they are written; ``load_settings`` makes Settings of them."""

    web: Web = Field(default_factory=Web, description="Where the service listens.")
    storage: Storage = Field(default_factory=Storage, description="Where durable state lives.")
    redis: Redis | None = Field(default=None, description="Redis beside the store: sooner, never the authority.")
    intake: Intake = Field(default_factory=Intake, description="What is accepted from Alertmanager.")
    worker: Worker = Field(default_factory=Worker, description="How runs are carried out.")
    approvals: Approvals = Field(default_factory=Approvals, description="How people are asked.")
    audit: Audit = Field(default_factory=Audit, description="How the loss of history is found.")
    mode_max: Mode = Field(
        default=Mode.AUTO, strict=False, description="The most that any rule may do, whatever its own mode says."
    )
    targets: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="The systems that rules may name, each with its kind."
    )
    services: dict[str, Service] = Field(default_factory=dict, description="The services that rules belong to.")
    escalations: dict[str, list[Call]] = Field(
        default_factory=dict, description="Whom to call when people are needed: policies, each a list of calls."
    )
    guards: list[dict[str, Any]] = Field(default_factory=list, description="Guards that stand before every rule's own.")
    users: dict[str, User] = Field(default_factory=dict, description="Who may use the API and the commands.")


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[ipv6]:port`` or ``:port``. Raises ValueError with what to write."""
    wrong = ValueError(f'"{text}" is not an address to listen on; write host:port, like 127.0.0.1:{DEFAULT_PORT}')
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise wrong
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port)
        except ValueError:
            raise wrong from None
    if not re.fullmatch(r"[A-Za-z0-9.-]*", host):
        raise wrong
    return host, int(port)
