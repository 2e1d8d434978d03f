"""From the text of ``remediator.yaml`` to settings that can be used, or to a report of everything that is wrong."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import parse_qs

from pydantic import ValidationError

from remediator.clock import format_duration
from remediator.document import Document, Path, load_document, read_bounded
from remediator.escalation import Policy
from remediator.problem import Problem, ProblemsError, Severity, nearest
from remediator.rule import Mode, Registry, guard_parameters
from remediator.settings.escalations import Policies
from remediator.settings.form import (
    Approvals,
    Audit,
    Intake,
    Redis,
    Service,
    SettingsFile,
    Storage,
    User,
    Web,
    Worker,
)
from remediator.target import Target
from remediator.validation import EXPOSED, found, model_problems, without_secrets

_ENVIRONMENT = re.compile(r"\$\{env:([^}]*)\}")
_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$"


class SettingsError(ProblemsError):
    """The settings were refused as a whole; ``problems`` holds everything that is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything the operator decided, ready to use."""

    web: Web
    storage: Storage
    redis: Redis | None
    intake: Intake
    worker: Worker
    approvals: Approvals
    audit: Audit
    mode_max: Mode
    targets: Mapping[str, Target]
    services: Mapping[str, Service]
    escalations: Mapping[str, Policy]
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

    @property
    def service_guards(self) -> dict[str, list[dict[str, Any]]]:
        """Service → the guards that stand before each of its rules."""
        return {
            name: [{"budget": {"runs": budget.runs, "settle": format_duration(budget.settle)}}]
            for name, service in self.services.items()
            if (budget := service.disruption_budget) is not None
        }

    @property
    def checkpoint_file(self) -> FilePath | None:
        """Where the audit's size and head are kept: as set, or beside a SQLite file, or nowhere."""
        if self.audit.checkpoint_file:
            return FilePath(self.audit.checkpoint_file)
        if self.storage.postgres:
            return None
        return self.storage.path.with_name(self.storage.path.name + ".checkpoint")


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
            self.problems += model_problems(self.document, (), SettingsFile, error)
        targets = self._targets(data.get("targets"))
        self._guards(data.get("guards"))
        self._escalations(data, targets)
        self._no_password(("redis", "url"))
        self._no_password(("storage", "url"))
        if form is not None:
            self._open_to_all(form)
        if form is None or any(p.severity is Severity.ERROR for p in self.problems):
            raise SettingsError(without_secrets(self.problems))
        return Settings(
            web=form.web,
            storage=form.storage,
            redis=form.redis,
            intake=form.intake,
            worker=form.worker,
            approvals=form.approvals,
            audit=form.audit,
            mode_max=form.mode_max,
            targets=targets,
            services=form.services,
            escalations=form.escalations,
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
        if name and path[-1] == "checkpoint_file":  # It is written, so only its place must be there.
            if not full.parent.is_dir():
                message = f"there is no directory {full.parent}"
                self._say(path, "settings/file", message, severity=Severity.WARNING)
        elif name and not full.is_file():
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

    def _escalations(self, data: Mapping[str, Any], targets: Mapping[str, Target]) -> None:
        policies = Policies(self.document, self.registry, targets)
        named = data.get("escalations")
        self.problems += policies.problems(named)
        asked = data.get("approvals")
        if isinstance(asked, dict):
            self.problems += policies.named(("approvals", "notify"), asked.get("notify"), named)
        ids: dict[Any, str] = {}
        for name, user in users.items() if isinstance(users := data.get("users"), dict) else ():
            slack_id = user.get("slack_id") if isinstance(user, dict) else None
            if slack_id is not None and (other := ids.setdefault(slack_id, name)) != name:
                message = f'"{other}" has this id in Slack already'
                self._say(("users", name, "slack_id"), "user/slack-id", message, "each person votes once")

    def _no_password(self, path: Path) -> None:
        """An address with a password would put a secret into this file, and into whatever shows the address."""
        outer = self.document.data.get(path[0])
        value = outer.get(path[1]) if isinstance(outer, dict) else None
        if not isinstance(value, str):
            return
        inside = ":" in value.partition("://")[2].rpartition("@")[0]
        if inside or "password" in parse_qs(value.partition("?")[2], keep_blank_values=True):
            hint = f"write {path[0]}.password_file: and the path of a file that holds it"
            self._say(path, EXPOSED, "the address holds a password", hint)

    def _open_to_all(self, form: SettingsFile) -> None:
        """Anybody who can connect could have things done: without tokens only this machine may connect."""
        if form.web.loopback or form.intake.tokens_file is not None or form.users:
            return
        message = f"{form.web.listen_address} is open to other machines, and nobody has to show a token"
        hint = "set intake.tokens_file or users, or listen on 127.0.0.1"
        self._say(("web", "listen_address"), "settings/open", message, hint)
