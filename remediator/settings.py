"""``remediator.yaml``: what the operator decides. Read, checked and turned into targets that can be used."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from remediator.clock import Duration
from remediator.document import Document, Path, load_document, read_bounded
from remediator.integrations._size import Size
from remediator.problem import Problem, ProblemsError, Severity, nearest
from remediator.rule import Mode, Registry, guard_parameters
from remediator.target import Target
from remediator.validation import found, model_problems, without_secrets

DEFAULT_PORT = 9095

LATER = {
    ("", "redis"): "leave it out; one replica on SQLite needs no Redis",
    ("", "escalations"): "let Alertmanager page people, with a route of its own",
    ("storage", "password_file"): "PostgreSQL follows; write url: sqlite:///… and leave the password out",
    ("storage", "retention"): "leave it out; nothing is deleted",
    ("services", "disruption_budget"): "leave it out, and bound rules with rate_limit",
}
"""Settings of coming versions, each with the key it stands under, and what to write until then."""

_ENVIRONMENT = re.compile(r"\$\{env:([^}]*)\}")
_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$"


class SettingsError(ProblemsError):
    """The settings were refused as a whole; ``problems`` holds everything that is wrong."""


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
        description="sqlite:///absolute/path or sqlite:relative/path of the database file.",
    )

    @field_validator("url")
    @classmethod
    def _url(cls, text: str) -> str:
        scheme, _, rest = text.partition(":")
        if scheme in ("postgresql", "postgres"):
            raise ValueError("PostgreSQL comes in a later version; write sqlite:///path/to/remediator.db")
        if scheme != "sqlite":
            raise ValueError("not a database address; write sqlite:///path/to/remediator.db")
        if "?" in rest or "#" in rest:
            raise ValueError("a database address has no options; write sqlite:///path/to/remediator.db")
        if (rest.startswith("//") and not rest.startswith("///")) or not rest.strip("/"):
            raise ValueError("the path of the database is missing; write sqlite:///path/to/remediator.db")
        return text

    @property
    def path(self) -> FilePath:
        """The database file."""
        rest = unquote(self.url.partition(":")[2])
        return FilePath("/" + rest.lstrip("/")) if rest.startswith("/") else FilePath(rest)


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


class Service(_Part):
    """A service in its own words."""

    severities: dict[str, str] = Field(
        default_factory=dict, description="Value of the alert's severity label → what this service calls it (SEV1)."
    )


class User(_Part):
    """Somebody who may use the API and the commands."""

    role: Literal["viewer", "operator", "approver", "admin"] = Field(
        description="viewer: read; operator: pause, cancel, retry; approver: also approve; admin: everything."
    )
    token_file: str = Field(description="File with the bearer token of this user; never the token itself.")


class SettingsFile(_Part):
    """The settings as they are written; ``load_settings`` makes Settings of them."""

    web: Web = Field(default_factory=Web, description="Where the service listens.")
    storage: Storage = Field(default_factory=Storage, description="Where durable state lives.")
    intake: Intake = Field(default_factory=Intake, description="What is accepted from Alertmanager.")
    worker: Worker = Field(default_factory=Worker, description="How runs are carried out.")
    approvals: Approvals = Field(default_factory=Approvals, description="How people are asked.")
    mode_max: Mode = Field(
        default=Mode.AUTO, strict=False, description="The most that any rule may do, whatever its own mode says."
    )
    targets: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="The systems that rules may name, each with its kind."
    )
    services: dict[str, Service] = Field(default_factory=dict, description="The services that rules belong to.")
    guards: list[dict[str, Any]] = Field(default_factory=list, description="Guards that stand before every rule's own.")
    users: dict[str, User] = Field(default_factory=dict, description="Who may use the API and the commands.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything the operator decided, ready to use."""

    web: Web
    storage: Storage
    intake: Intake
    worker: Worker
    approvals: Approvals
    mode_max: Mode
    targets: Mapping[str, Target]
    services: Mapping[str, Service]
    guards: list[dict[str, Any]]
    users: Mapping[str, User]
    warnings: tuple[Problem, ...] = ()
    """What is not wrong but worth saying, such as a file that does not exist (yet)."""
    digest: str = ""
    """SHA-256 over the file's content, hex."""

    @property
    def severities(self) -> dict[str, Mapping[str, str]]:
        """Service → severity of the alert → the service's own word for it."""
        return {name: service.severities for name, service in self.services.items()}


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


def load_settings(
    path: str | os.PathLike[str] | None, registry: Registry, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """The settings in the file ``path``; None is an empty file, so that every default applies.

    ``overrides`` are values of command-line flags by dotted key (``web.listen_address``), which win over the
    file. File names in it are taken relative to the file. Raises SettingsError with all problems.
    """
    name = os.fspath(path) if path is not None else "(no settings file)"
    try:
        raw = read_bounded(path) if path is not None else b""
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        raise SettingsError(
            [
                Problem(
                    file=name,
                    line=0,
                    column=0,
                    severity=Severity.ERROR,
                    id="file/missing" if gone else "file/unreadable",
                    message="there is no such file" if gone else f"cannot be read: {error.strerror}",
                )
            ]
        ) from None
    return settings_from_text(name, raw, registry, overrides)


def settings_from_text(
    file: str, raw: bytes, registry: Registry, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Like ``load_settings``, from the name and the content of the file. Raises SettingsError."""
    try:
        document = load_document(file, raw)
    except ProblemsError as error:
        raise SettingsError(error.problems) from None
    reading = _Reading(document, FilePath(file).parent, registry, overrides or {})
    return reading.settings(hashlib.sha256(raw).hexdigest())


class _WithFlags(Document):
    """A settings file in which flags have replaced some values: problems of those name the flag."""

    __slots__ = ("flags",)

    def __init__(self, document: Document, flags: frozenset[Path]) -> None:
        super().__init__(document.file, document.text, document.data)
        self.flags = flags

    def problem(self, path: Path, id: str, message: str, **more: Any) -> Problem:
        """As for any document, unless the value at ``path`` came from a flag."""
        made = super().problem(path, id, message, **more)
        if path not in self.flags:
            return made
        dotted = ".".join(str(part) for part in path)
        # --web.listen-address, but --mode.max
        flag = "--" + dotted.replace("_", "-" if len(path) > 1 else ".")
        return replace(made, file=flag, line=0, column=0, source="")


class _Reading:
    """One pass over one settings file, which collects problems until the end."""

    def __init__(
        self, document: Document, directory: FilePath, registry: Registry, overrides: Mapping[str, Any]
    ) -> None:
        self.overrides: dict[Path, Any] = {tuple(key.split(".")): value for key, value in overrides.items()}
        self.document = _WithFlags(document, frozenset(self.overrides))
        self.directory = directory
        self.registry = registry
        self.problems: list[Problem] = []

    def settings(self, digest: str) -> Settings:
        """The settings. Raises SettingsError."""
        data = self._data()
        form: SettingsFile | None = None
        try:
            form = SettingsFile.model_validate(data)
        except ValidationError as error:
            self.problems += model_problems(
                self.document, (), SettingsFile, error, later=LATER, later_id="settings/later"
            )
        targets = self._targets(data.get("targets"))
        self._guards(data.get("guards"))
        if form is not None:
            self._open_to_all(form)
        if form is None or any(p.severity is Severity.ERROR for p in self.problems):
            raise SettingsError(without_secrets(self.problems))
        return Settings(
            web=form.web,
            storage=form.storage,
            intake=form.intake,
            worker=form.worker,
            approvals=form.approvals,
            mode_max=form.mode_max,
            targets=targets,
            services=form.services,
            guards=form.guards,
            users=form.users,
            warnings=tuple(self.problems),
            digest=digest,
        )

    def _say(self, path: Path, id: str, message: str, hint: str = "", **more: Any) -> None:
        self.problems.append(self.document.problem(path, id, message, hint=hint, **more))

    def _data(self) -> dict[str, Any]:
        data = self.document.data
        if data is None:
            data = {}
        if not isinstance(data, dict):
            message = f"expected a map with keys such as web and targets, found {found(data)}"
            raise SettingsError([self.document.problem((), "value/type", message)])
        data = {key: self._filled(value, (key,)) for key, value in data.items()}
        for path, value in self.overrides.items():
            inner = data
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
                if not isinstance(inner, dict):
                    break
            else:
                inner[str(path[-1])] = value
        self.document.data = data
        return data

    def _filled(self, value: Any, path: Path) -> Any:
        """``value`` with ``${env:NAME}`` replaced and file names made absolute."""
        if isinstance(value, dict):
            return {key: self._filled(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        # What a command gets into its environment is read for each run, so that no secret stays in memory.
        if len(path) > 3 and path[0] == "targets" and path[2] == "environment":
            return value
        filled = _ENVIRONMENT.sub(lambda match: self._variable(match, value, path), value)
        if str(path[-1]).endswith("_file"):
            return self._file(filled, path)
        return filled

    def _variable(self, match: re.Match[str], text: str, path: Path) -> str:
        name = match[1]
        if name not in os.environ:
            message = f"the environment variable {name} is not set"
            self._say(path, "settings/environment", message, needle=text, offset=match.start())
        return os.environ.get(name, "")

    def _file(self, name: str, path: Path) -> str:
        full = self.directory / name
        if name and not full.is_file():
            message = f"there is no file {full}"
            self._say(path, "settings/file", message, severity=Severity.WARNING)
        return str(full) if name else name

    def _targets(self, data: Any) -> dict[str, Target]:
        out: dict[str, Target] = {}
        for name, entry in data.items() if isinstance(data, dict) else ():
            path: Path = ("targets", name)
            if re.fullmatch(_NAME, name) is None:
                message = f'"{name}" cannot be the name of a target'
                self._say(path, "target/name", message, "use letters, digits, -, _ and .", key=True)
            if not isinstance(entry, dict):
                continue  # The form has reported it.
            made = self._target(path, name, entry)
            if made is not None:
                out[name] = made
        return out

    def _target(self, path: Path, name: str, entry: Mapping[str, Any]) -> Target | None:
        kinds = self.registry.names("targets")
        kind_name = entry.get("kind")
        if not isinstance(kind_name, str):
            self._say(path, "value/missing", '"kind" is missing', f"one of {', '.join(kinds)}")
            return None
        kind = self.registry.target_kind(kind_name)
        if kind is None:
            hint = nearest(kind_name, kinds) or f"there are {', '.join(kinds)}"
            self._say((*path, "kind"), "target/unknown-kind", f'no kind of target is named "{kind_name}"', hint)
            return None
        if "name" in entry:
            self._say(
                (*path, "name"), "value/unknown-key", 'unknown key "name"', "a target's name is its key", key=True
            )
            return None
        parameters = {key: value for key, value in entry.items() if key != "kind"}
        self._permit(path, kind, entry.get("permit"))
        try:
            return kind.model_validate(parameters | {"name": name})
        except ValidationError as error:
            self.problems += model_problems(self.document, path, kind, error)
            return None

    def _permit(self, path: Path, kind: type[Target], permit: Any) -> None:
        """Lists that this kind of target does not have, and actions that do not exist, permit nothing."""
        if not isinstance(permit, dict):
            return
        lists = ("actions", *kind.lists)
        for key, values in permit.items():
            at: Path = (*path, "permit", key)
            if key not in lists:
                hint = nearest(key, lists) or f"there are {', '.join(lists)}"
                self._say(at, "value/unknown-key", f'unknown key "{key}"', hint, key=True)
            elif key == "actions" and isinstance(values, list):
                for index, value in enumerate(values):
                    self._permitted_action(((*at, index)), value)

    def _permitted_action(self, path: Path, value: Any) -> None:
        if not isinstance(value, str) or "*" in value or "?" in value or "[" in value:
            return
        if self.registry.action(value) is None and self.registry.probe(value) is None:
            names = [*self.registry.names("actions"), *self.registry.names("probes")]
            self._say(path, "action/unknown", f'no action and no probe is named "{value}"', nearest(value, names))

    def _guards(self, data: Any) -> None:
        for index, entry in enumerate(data) if isinstance(data, list) else ():
            if not isinstance(entry, dict):
                continue
            path: Path = ("guards", index)
            if len(entry) != 1:
                message = f"a guard is a map with one key, its name; this one has {len(entry)}"
                self._say(path, "guard/form", message, "write each guard as its own item: - cooldown: 10m")
                continue
            name, value = next(iter(entry.items()))
            kind = self.registry.guard(name)
            if kind is None:
                hint = nearest(name, self.registry.names("guards"))
                self._say((*path, name), "guard/unknown", f'no guard is named "{name}"', hint, key=True)
                continue
            try:
                kind.model_validate(guard_parameters(kind, value))
            except ValidationError as error:
                self.problems += model_problems(self.document, (*path, name), kind, error)

    def _open_to_all(self, form: SettingsFile) -> None:
        """Anybody who can connect could have things done: without tokens only this machine may connect."""
        if form.web.loopback or form.intake.tokens_file is not None or form.users:
            return
        message = f"{form.web.listen_address} is open to other machines, and nobody has to show a token"
        hint = "set intake.tokens_file or users, or listen on 127.0.0.1"
        self._say(("web", "listen_address"), "settings/open", message, hint)
