"""The composition root: puts a service together from settings and rules, keeps it running, reloads it, drains it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from remediator import __version__, log
from remediator.alert import Bounds
from remediator.arrival import RuleRef
from remediator.audit import Entry
from remediator.catalogue import Catalogue
from remediator.checkpoint import Checkpoint, CheckpointFile, Keeper
from remediator.checks import CheckContext
from remediator.clock import Clock, SystemClock
from remediator.engine import Engine
from remediator.errors import InputError, StoreError, StoreUnavailable
from remediator.ids import Ids, SystemIds
from remediator.intake import Intake, IntakeRules, intake_rules
from remediator.integrations.slack.target import SlackTarget
from remediator.ledger import Books
from remediator.metrics import Metrics
from remediator.planning import Plans, effective_mode, locks, watched
from remediator.problem import Problem, ProblemsError
from remediator.retention import Retention, longest_window
from remediator.rule import Mode
from remediator.rulebook import Rulebook, load_rulebook
from remediator.settings import Redis, Settings, load_settings
from remediator.store import Store
from remediator.stores.sqlite import SqliteStore
from remediator.target import Target
from remediator.treasurer import Treasurer
from remediator.web.live import Live
from remediator.web.server import Server
from remediator.web.server import start as start_web
from remediator.web.service import Role, User, WebOptions
from remediator.web.slack import SlackAnswers
from remediator.web.tls import tls_context
from remediator.worker import Worker
from remediator.world import World

if TYPE_CHECKING:
    from remediator.stores.accelerated import AcceleratedStore

_log = structlog.get_logger("remediator")
_FIGURES_EVERY = 2.0
_PRE_STOP = 1.0
"""Seconds in which deliveries are still answered after the service stopped being ready."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The flags of ``remediator serve``; None and empty values leave the settings as they are."""

    config_file: str | None = None
    rules_path: tuple[str, ...] = ()
    listen_address: str | None = None
    web_config_file: str | None = None
    enable_lifecycle: bool = False
    storage_url: str | None = None
    storage_migrate: bool | None = None
    log_level: str = "info"
    log_format: str = ""
    mode_max: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """Settings and rules that were read and checked together: all of them, or none."""

    settings: Settings
    rulebook: Rulebook
    refs: Mapping[str, RuleRef]
    world: World
    warnings: Sequence[Problem]
    watched: frozenset[str] = frozenset()
    """Matchers of alerts that only guards look at."""

    def at_most(self, mode: Mode) -> Loaded:
        """The same with no rule going further than ``mode``."""
        refs = {name: ref._replace(mode=Mode(ref.mode).at_most(mode).value) for name, ref in self.refs.items()}
        return replace(self, world=replace(self.world, mode_max=self.world.mode_max.at_most(mode)), refs=refs)


def load(options: Options, catalogue: Catalogue) -> Loaded:
    """Read everything there is to configure. Raises InputError (a ProblemsError where files are wrong)."""
    flags = {
        "web.listen_address": options.listen_address,
        "storage.url": options.storage_url,
        "storage.migrate": options.storage_migrate,
        "mode_max": options.mode_max,
    }
    overrides = {key: value for key, value in flags.items() if value is not None}
    settings = load_settings(options.config_file, catalogue, overrides)
    rulebook = load_rulebook(options.rules_path, catalogue, settings.targets, settings.escalations)
    world = World(
        registry=catalogue,
        rules={rule.name: rule for rule in rulebook.rules},
        targets=settings.targets,
        plans=Plans(catalogue, settings.guards, settings.service_guards),
        mode_max=settings.mode_max,
        severities=settings.severities,
        approval_expires=settings.approvals.expires,
        escalations=settings.escalations,
        approvals_notify=settings.approvals.notify,
        external_url=settings.web.external_url,
    )
    refs = {
        rule.name: RuleRef(
            rule.name,
            rule.digest,
            effective_mode(rule, settings.mode_max).value,
            locks(rule, catalogue, settings.targets),
            rule.when.for_,
        )
        for rule in rulebook.rules
    }
    return Loaded(
        settings=settings,
        rulebook=rulebook,
        refs=refs,
        world=world,
        watched=frozenset(watched(rulebook.rules, catalogue, settings.guards)),
        warnings=(*settings.warnings, *rulebook.warnings, *_lint(rulebook, settings, catalogue)),
    )


def _lint(rulebook: Rulebook, settings: Settings, catalogue: Catalogue) -> list[Problem]:
    context = CheckContext(services=set(settings.services), guards=list(settings.guards))
    return catalogue.lint(rulebook, context)


class Application:
    """One running service: what ``web.Service`` asks for, and the life of everything behind it."""

    def __init__(self, options: Options, *, clock: Clock | None = None) -> None:
        self.flags = options
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.catalogue = Catalogue()
        self.draining = False
        self._ids = SystemIds(self.clock)
        self._loaded = self._as_written = load(options, self.catalogue)
        self._reloading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._hearing: list[asyncio.Task[None]] = []
        self._store_error = ""
        settings = self._loaded.settings
        owner = f"{os.uname().nodename}:{os.getpid()}:{self._ids()[:10]}"
        store = _store(settings, self.clock, self._ids)
        self._redis = _beside(store, settings.redis, owner, self.metrics)
        self.store: Store = self._redis or store
        self.live = Live(self.store)
        place = settings.checkpoint_file
        self._checkpoint = Keeper(
            self.store,
            CheckpointFile(place) if place else None,
            clock=self.clock,
            metrics=self.metrics,
            changed=self._trust_changed,
        )
        self._retention = Retention(self.store, self._kept)
        self._treasurer = Treasurer(
            self.store, lambda: self._loaded.world.targets, clock=self.clock, metrics=self.metrics
        )
        engine = Engine(self.store, lambda: self._loaded.world, clock=self.clock, ids=self._ids, metrics=self.metrics)
        self.worker = Worker(
            self.store,
            engine,
            owner=owner,
            clock=self.clock,
            concurrency=settings.worker.concurrency,
            lease=settings.worker.lease,
            poll=settings.worker.poll,
        )
        self.store.on_wake(self.wake)
        if self._redis is not None:
            self._redis.on_news(self.live.nudge)
        self.intake = Intake(
            self.store,
            self._intake_rules(),
            clock=self.clock,
            metrics=self.metrics,
            bounds=Bounds(alerts=settings.intake.max_alerts),
            backlog=settings.intake.backlog,
            deadline=5.0,
            wake=self.wake,
        )
        self._server: Server | None = None
        self._options, self._options_of = self._web_options(self._loaded), self._loaded

    # what the web asks for -------------------------------------------------------------------------------------------

    @property
    def options(self) -> WebOptions:
        """The settings of the HTTP face as they are now; asked for by every request, so made once for each set."""
        if self._options_of is not self._loaded:
            self._options, self._options_of = self._web_options(self._loaded), self._loaded
        return self._options

    def _web_options(self, loaded: Loaded) -> WebOptions:
        settings = loaded.settings
        return WebOptions(
            tokens_file=settings.intake.tokens_file or "",
            users=tuple(
                User(name, Role(user.role), user.token_file, user.slack_id or "")
                for name, user in settings.users.items()
            ),
            external_url=settings.web.external_url,
            mode_max=loaded.world.mode_max,
            enable_lifecycle=self.flags.enable_lifecycle,
            max_body=settings.intake.max_body,
        )

    @property
    def rulebook(self) -> Rulebook:
        """The rules in force."""
        return self._loaded.rulebook

    @property
    def targets(self) -> Mapping[str, Target]:
        """The targets in force."""
        return self._loaded.world.targets

    @property
    def slack_apps(self) -> Sequence[SlackTarget]:
        """The Slack apps in force in which people may answer questions."""
        apps = [target for target in self.targets.values() if isinstance(target, SlackTarget)]
        return [app for app in apps if app.signing_secret_file is not None]

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether deliveries can be committed and runs carried out."""
        parts = {
            "store": self._store_error or "ok",
            "rules": f"{len(self.rulebook)} rules",
            "audit": self._checkpoint.doubt or self._checkpoint.trouble or "ok",
            "draining": self.draining,
        }
        if self._redis is not None:
            parts["redis"] = self._redis.health  # Told, and no reason not to be ready: nothing depends on it.
        return not self._store_error and not self.draining, parts

    def wake(self) -> None:
        """Something changed what waits."""
        self.worker.wake()
        self.live.nudge()

    async def accept_loss(self, actor: str, reason: str) -> Checkpoint:
        """A person takes the store as it is although history is missing. Raises Conflict, StoreUnavailable."""
        return await self._checkpoint.accept(actor, reason)

    def _trust_changed(self) -> None:
        # What may have been lost are licences, limits and pauses: until a person has looked, a person says yes.
        self._loaded = self._as_written.at_most(Mode.APPROVE) if self._checkpoint.doubt else self._as_written
        self.intake.replace(self._intake_rules())
        self.worker.wake()

    def _intake_rules(self) -> IntakeRules:
        loaded = self._loaded
        drop = loaded.settings.intake.drop_labels
        return intake_rules(loaded.rulebook, loaded.refs, drop, loaded.watched)

    async def _kept(self) -> float | None:
        """How long history is kept, in seconds: never shorter than a limit looks back."""
        loaded = self._loaded
        if loaded.settings.storage.retention is None:
            return None
        rules, settings = loaded.rulebook.rules, loaded.settings
        guards = [*settings.guards, *(entry for entries in settings.service_guards.values() for entry in entries)]
        window = await asyncio.to_thread(longest_window, rules, self.catalogue, guards)
        return max(loaded.settings.storage.retention, window)

    async def reload(self, actor: str) -> None:
        """Read settings and rules again and swap the whole set, or keep the old one and raise InputError."""
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(load, self.flags, self.catalogue)
            except InputError as error:
                self.metrics.set_reload(False, self.clock.now())
                detail = {"error": str(error)[:10_000]}
                await self.store.append(Entry(event="rules.rejected", actor=actor, detail=detail))
                _log.error("reload failed; the old rules and settings stay in force", actor=actor, error=str(error))
                raise
            await self._swap(loaded, actor)

    async def _swap(self, loaded: Loaded, actor: str) -> None:
        before = self._loaded
        changed = _difference(before.rulebook, loaded.rulebook)
        detail = {"rules": len(loaded.rulebook), "digest": loaded.rulebook.digest, "settings": loaded.settings.digest}
        bodies = {rule.digest: rule.body for rule in loaded.rulebook.rules}
        await self.store.remember(bodies, Entry(event="rules.loaded", actor=actor, detail={**detail, **changed}))
        self._as_written = loaded
        self._trust_changed()
        self._say_warnings()
        self.metrics.set_reload(True, self.clock.now())
        _log.info("rules loaded", actor=actor, rules=len(loaded.rulebook), **changed)
        self.worker.wake()
        self._hear()
        # Runs that began with the old targets may still act on them, however long that takes.
        self._later(_close_after(self.worker.under_way(), before.world.targets))

    def _say_warnings(self) -> None:
        for problem in self._loaded.warnings:
            _log.warning("a rule or setting is right but unwise", problem=str(problem))

    # life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, listen, and begin to act. Raises InputError, StoreError, and then holds nothing."""
        await self.store.open()
        try:
            await self._begin()
        except BaseException:
            # What goes on by itself, such as a link to Redis, would keep the process from ending.
            if self._server is not None:
                await self._server.stop()
            await self.store.close()
            raise

    async def _begin(self) -> None:
        settings = self._loaded.settings
        bodies = {rule.digest: rule.body for rule in self.rulebook.rules}
        detail = {
            "version": __version__,
            "rules": len(self.rulebook),
            "digest": self.rulebook.digest,
            "settings": settings.digest,
            "mode_max": settings.mode_max.value,
            "pid": os.getpid(),
        }
        await self.store.remember(bodies, Entry(event="service.started", actor="remediator", detail=detail))
        await self._checkpoint.start()
        self._say_warnings()
        self.metrics.set_reload(True, self.clock.now())
        tls = tls_context(self.flags.web_config_file) if self.flags.web_config_file else None
        self._server = await start_web(self, host=settings.web.host, port=settings.web.port, ssl=tls)
        await self._figures()
        self.worker.start()
        self._later(self._figures_for_ever())
        self._later(self._retention.for_ever())
        self._later(self._treasurer.for_ever())
        self._hear()
        # What was loaded stays; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if not (settings.intake.tokens_file or settings.users):
            _log.warning("no tokens and no users are configured: listens on loopback only, and trusts everybody there")
        most = self._loaded.world.mode_max.value
        _log.info("listening", address=self.address, rules=len(self.rulebook), mode_max=most)

    @property
    def address(self) -> str:
        """Where the service listens, as ``host:port``."""
        port = self._server.port if self._server else self._loaded.settings.web.port
        host = self._loaded.settings.web.host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """Drain: not ready any more, deliveries still answered for a moment, runs finished or handed back."""
        self.draining = True
        _log.info("stopping: no new runs are begun", active=self.worker.active)
        await asyncio.sleep(_PRE_STOP)
        await self.worker.drain(self._loaded.settings.worker.grace)
        self.live.end()
        if self._server is not None:
            await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self.store.append(Entry(event="service.stopped", actor="remediator", detail={"pid": os.getpid()}))
            await self._checkpoint.keep()
        await _close(self.targets)
        await self.store.close()
        _log.info("stopped")

    def _hear(self) -> None:
        """Listen to what people press in Slack, for every app of the targets in force; no longer for those before."""
        for task in self._hearing:
            task.cancel()
        self._hearing = [
            self._later(SlackAnswers(self, app).socket().for_ever())
            for app in self.slack_apps
            if app.app_token_file is not None
        ]

    async def compare_books(self) -> Sequence[Books]:
        """Hold the chain against the ledger, for every treasury. Raises StoreUnavailable."""
        return await self._treasurer.compare(self._treasurer.treasuries())

    def _later(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(lambda done: self._tasks.remove(done) if done in self._tasks else None)
        return task

    async def _figures_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_FIGURES_EVERY)
            await self._figures()

    async def _figures(self) -> None:
        try:
            await self.store.ping()
            counts = await self.store.counts()
            self.metrics.set_counts(counts, self.clock.now())
            await self._checkpoint.look(counts.audit_records)
            self.metrics.set_pauses(pause.scope for pause in await self.store.pauses())
            self.metrics.set_guards(state.guard for state in await self.store.guard_states(open_only=True))
        except StoreUnavailable as error:
            if not self._store_error:
                _log.error("the store is away: deliveries get 503 and nothing acts until it is back", error=str(error))
            self._store_error = str(error)
        else:
            if self._store_error:
                _log.info("the store is back")
            self._store_error = ""


def _store(settings: Settings, clock: Clock, ids: Ids) -> Store:
    """The store that the settings name; the library of PostgreSQL is loaded only for those who have one."""
    storage, tolerance = settings.storage, settings.intake.tolerance
    if not storage.postgres:
        return SqliteStore(str(storage.path), clock=clock, ids=ids, tolerance=tolerance, migrate=storage.migrate)
    from remediator.stores.postgres import PostgresStore

    return PostgresStore(
        storage.url,
        clock=clock,
        ids=ids,
        tolerance=tolerance,
        schema=storage.schema_,
        migrate=storage.migrate,
        password_file=storage.password_file or "",
        pool_size=storage.pool_size,
    )


def _beside(store: Store, redis: Redis | None, owner: str, metrics: Metrics) -> AcceleratedStore | None:
    """``store`` with the Redis of the settings beside it, or None without one."""
    if redis is None:
        return None
    # Its library takes a while to load, and is for those who have a Redis.
    from remediator.stores.accelerated import AcceleratedStore

    return AcceleratedStore(
        store,
        redis.url,
        owner=owner,
        metrics=metrics,
        password_file=redis.password_file or "",
        timeout=redis.timeout,
        prefix=redis.prefix,
    )


def _difference(before: Rulebook, after: Rulebook) -> dict[str, list[str]]:
    old = {rule.name: rule.digest for rule in before.rules}
    new = {rule.name: rule.digest for rule in after.rules}
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "edited": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
    }


async def _close_after(users: Collection[asyncio.Task[None]], targets: Mapping[str, Target]) -> None:
    try:
        if users:
            await asyncio.wait(users)
    finally:
        await _close(targets)


async def _close(targets: Mapping[str, Target]) -> None:
    for target in targets.values():
        await target.close()


async def _serve(options: Options) -> int:
    application = Application(options)
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with contextlib.suppress(InputError, StoreError):
            await application.reload("signal:SIGHUP")

    def on_hangup() -> None:
        task = asyncio.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    await application.start()
    await ending.wait()
    # A second signal means now.
    loop.add_signal_handler(signal.SIGINT, lambda: os._exit(130))
    await application.stop()
    return 0


def serve(options: Options) -> int:
    """Run the service until SIGTERM or SIGINT; the exit code (0 fine, 1 the input is wrong)."""
    try:
        log.configure(level=options.log_level, form=options.log_format)
        return asyncio.run(_serve(options))
    except ProblemsError as error:
        sys.stderr.write(f"{error}\n")
    except (InputError, StoreError) as error:
        sys.stderr.write(f"error: {error}\n")
    return 1


def default_rules_path(config_file: str | None) -> tuple[str, ...]:
    """``rules/`` beside the settings file, or in the working directory, where no path was given."""
    base = Path(config_file).parent if config_file else Path()
    return (str(base / "rules"),) if (base / "rules").is_dir() else ()


__all__ = ["Application", "Loaded", "Mode", "Options", "default_rules_path", "load", "serve"]
