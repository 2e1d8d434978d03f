"""What the HTTP face needs of the service behind it, and nothing more; the application implements it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from remediator.arrival import Receipt
from remediator.checkpoint import Checkpoint
from remediator.clock import Clock
from remediator.integrations.slack.target import SlackTarget
from remediator.ledger import Books
from remediator.metrics import Metrics
from remediator.rule import Mode, Rule
from remediator.store import Store
from remediator.web.live import Live


class Role(StrEnum):
    """What a person may do, in rising order; each includes those before it."""

    VIEWER = "viewer"
    """Read everything."""
    OPERATOR = "operator"
    """Cancel, pause, resume, and deliver alerts by hand."""
    APPROVER = "approver"
    """Approve and reject changes."""
    ADMIN = "admin"
    """Reload, and accept that history was lost."""

    def covers(self, wanted: Role) -> bool:
        """Whether this role may do what ``wanted`` may."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


class User(NamedTuple):
    """A person or a program with an API token; the file holds one token a line, several while one is replaced."""

    name: str
    role: Role
    token_file: str
    slack_id: str = ""
    """Who this is in Slack; empty: nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebOptions:
    """The settings of the HTTP face. Sizes are bytes, times seconds. Limits take effect at start, the rest at once."""

    tokens_file: str = ""
    """Bearer tokens of those who deliver alerts; empty: none are configured."""
    users: tuple[User, ...] = ()
    external_url: str = ""
    mode_max: Mode = Mode.AUTO
    enable_lifecycle: bool = False
    max_body: int = 1 << 20
    head_timeout: float = 10.0
    body_timeout: float = 10.0
    accept_timeout: float = 5.0
    keep_alive: float = 75.0
    heartbeat: float = 15.0
    connections: int = 512


class RuleSet(Protocol):
    """The rules in force; ``rulebook.Rulebook`` is one."""

    @property
    def rules(self) -> Sequence[Rule]:
        """All of them, in the order of the files."""
        ...

    def get(self, name: str) -> Rule | None:
        """The rule of that name, or None."""
        ...

    def file_of(self, name: str) -> str:
        """The file that holds it, or an empty string."""
        ...


class Intake(Protocol):
    """Takes deliveries; ``intake.Intake`` is one."""

    async def accept(self, body: bytes, source: str) -> Receipt:
        """The receipt after the commit. Raises DeliveryError, StoreUnavailable."""
        ...


class Service(Protocol):
    """The running service as the HTTP face sees it."""

    @property
    def options(self) -> WebOptions:
        """The settings as they are now; a reload may replace them."""
        ...

    @property
    def store(self) -> Store:
        """Durable state."""
        ...

    @property
    def rulebook(self) -> RuleSet:
        """The rules in force now."""
        ...

    @property
    def targets(self) -> Collection[str]:
        """Names of the targets in force now."""
        ...

    @property
    def slack_apps(self) -> Sequence[SlackTarget]:
        """The Slack apps in which people may answer questions."""
        ...

    @property
    def intake(self) -> Intake:
        """Where deliveries go."""
        ...

    @property
    def live(self) -> Live:
        """What happens, for those who watch."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Figures of this service."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop: it answers deliveries still and is no longer ready."""
        ...

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether the service can do its work, and part by part why or why not (``{"store": "ok", …}``)."""
        ...

    def wake(self) -> None:
        """Tell the worker that a person has changed what waits."""
        ...

    async def accept_loss(self, actor: str, reason: str) -> Checkpoint:
        """Take the store as it is although its audit does not fit its checkpoint. Raises Conflict if it does fit."""
        ...

    async def compare_books(self) -> Sequence[Books]:
        """Hold the chain against the ledger, for every treasury; whatever differs pauses its target."""
        ...

    async def reload(self, actor: str) -> None:
        """Load settings and rules again. Raises InputError with the report; the old set then stays in force."""
        ...
