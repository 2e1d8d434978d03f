"""A real server on loopback around a real intake, a real rulebook and a real store in memory."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from remediator.action import Change
from remediator.alert import Bounds
from remediator.arrival import RuleRef
from remediator.audit import Entry
from remediator.catalogue import Catalogue
from remediator.checkpoint import Checkpoint, CheckpointFile, Keeper
from remediator.clock import Clock
from remediator.errors import InputError
from remediator.ids import SystemIds
from remediator.intake import Intake, IntakeRules, intake_rules
from remediator.integrations.slack.target import SlackTarget
from remediator.ledger import Books
from remediator.metrics import Metrics
from remediator.rulebook import Rulebook, rulebook_from_texts
from remediator.run import Lock, State
from remediator.store import Approval, Store
from remediator.stores.sqlite import SqliteStore
from remediator.web.live import Live
from remediator.web.server import Server, start
from remediator.web.service import Role, User, WebOptions

RULES = b"""
rules:
  - name: minting-queue-backlog
    description: Grow the worker pool while jobs wait.
    owner: team-minting
    when: {alert: HighQueueDepth}
    steps:
      - {id: grow, uses: http.post, target: minting-api, with: {path: /admin/workers, json: {count: 5}}}
    verify: {until: alert.resolved, within: 10m}
  - name: watch-only
    mode: observe
    when: {alert: [Other, Another]}
    steps:
      - {uses: http.post, target: minting-api, with: {path: /admin/queue/pause}}
"""


class RealService:
    """The smallest service that can stand behind the HTTP face; everything in it is the real thing."""

    def __init__(self, store: Store, clock: Clock, options: WebOptions) -> None:
        self.store = store
        self.clock = clock
        self.options = options
        self.metrics = Metrics()
        self.rulebook: Rulebook = rulebook_from_texts([("rules.yaml", RULES)], Catalogue())
        self.targets: Collection[str] = ("minting-api",)
        self.slack_apps: list[SlackTarget] = []
        self.live = Live(store)
        self.draining = False
        self.woken = 0
        self.reloads: list[str] = []
        self.broken_rules = ""
        self.books: Sequence[Books] = ()
        self.keeper = Keeper(store, None, clock=clock, metrics=self.metrics, changed=self.wake)
        self.intake = Intake(
            store, self._rules(), clock=clock, metrics=self.metrics, bounds=Bounds(), backlog=100, deadline=5,
            wake=self.wake,
        )  # fmt: skip

    def _rules(self) -> IntakeRules:
        refs = {}
        for rule in self.rulebook.rules:
            locks = tuple(Lock(target, "", 1) for target in rule.targets)
            refs[rule.name] = RuleRef(rule.name, rule.digest, rule.mode.value, locks, 0.0)
        return intake_rules(self.rulebook, refs, ("pod",))

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        return True, {"store": "ok"}

    def wake(self) -> None:
        self.woken += 1

    async def accept_loss(self, actor: str, reason: str) -> Checkpoint:
        return await self.keeper.accept(actor, reason)

    async def compare_books(self) -> Sequence[Books]:
        return self.books

    async def reload(self, actor: str) -> None:
        if self.broken_rules:
            raise InputError(self.broken_rules)
        self.reloads.append(actor)


class Site:
    """A running server, the service behind it, and a client that knows its address."""

    def __init__(self, service: RealService, server: Server, session: aiohttp.ClientSession) -> None:
        self.service = service
        self.server = server
        self.session = session
        self.url = f"http://127.0.0.1:{server.port}"

    async def get(self, path: str, token: str = "", **more: Any) -> tuple[int, Any]:
        return await self.ask("GET", path, token, **more)

    async def post(self, path: str, token: str = "", **more: Any) -> tuple[int, Any]:
        return await self.ask("POST", path, token, **more)

    async def ask(self, method: str, path: str, token: str = "", **more: Any) -> tuple[int, Any]:
        """Status, and the JSON (or else the text) of the answer."""
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **more) as answer:
            kind = answer.headers.get("Content-Type", "")
            json = "json" in kind and "jsonl" not in kind
            return answer.status, await (answer.json(content_type=None) if json else answer.text())

    async def events(self) -> list[str]:
        """The events of the audit so far, oldest first."""
        return [record.event async for record in self.service.store.audit_stream()]



StartSite = Callable[..., Awaitable[Site]]


async def open_site(stack: AsyncExitStack, clock: Clock, **options: Any) -> Site:
    """A site with the given options; ``stack`` ends it."""
    store = SqliteStore(":memory:", clock=clock, ids=SystemIds(clock))
    await store.open()
    stack.push_async_callback(store.close)
    service = RealService(store, clock, WebOptions(**options))
    server = await start(service, host="127.0.0.1", port=0)
    stack.push_async_callback(server.stop)
    stack.callback(service.live.end)  # As the application does: a stop does not wait for those who only watch.
    session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))
    return Site(service, server, session)


def delivery(*alerts: tuple[str, dict[str, str]] | str, status: str = "firing", **more: Any) -> dict[str, Any]:
    """A webhook body of Alertmanager with these alerts: names, or names with further labels."""
    pairs = [(alert, {}) if isinstance(alert, str) else alert for alert in alerts]
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "remediator",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": name, **labels},
                "annotations": {"summary": "x"},
                "startsAt": "2026-11-20T21:36:54.618Z",
                "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-11-20T22:00:00Z",
                "generatorURL": "http://prometheus:9090/graph",
                "fingerprint": "f" * 16,
            }
            for name, labels in pairs
        ],
        **more,
    }


DIGEST = "a" * 64
"""The digest of the question that ``asked`` puts."""

CHANGE = Change(summary="5 workers instead of 2", before={"workers": 2}, after={"workers": 5})
"""What is asked about."""


async def asked(site: Site, needed: int = 1) -> str:
    """The id of a new run that waits for approval of CHANGE under DIGEST."""
    store, now = site.service.store, site.service.clock.now()
    receipt = await site.service.intake.accept(json.dumps(delivery("HighQueueDepth")).encode(), "test")
    (run_id,) = receipt.runs
    (claim,) = await store.claim("worker", 30, 1)
    step = {
        "id": "grow", "uses": "http.post", "target": "minting-api", "state": "waiting",
        "parameters": {"path": "/admin/workers"}, "change": {**CHANGE.as_json(), "digest": CHANGE.digest},
    }  # fmt: skip
    progress = {
        "evidence": {"deps": {"probe": "deps", "ok": True, "value": {"status": 200}}},
        "verdicts": [{"guard": "approval", "decision": "hold", "reason": "approval", "message": "waits"}],
        "steps": [step],
    }
    run = claim.run.move(State.HELD, "approval", "waits for 1 yes", now=now, wake_at=now + 900, progress=progress)
    change = {"step": 0, "id": "grow", "uses": "http.post", "target": "minting-api", "change": CHANGE.as_json()}
    question = Approval(
        id="q" * 26, run_id=run_id, digest=DIGEST, changes=[change], state="pending", needed=needed,
        requested_at=now, expires_at=now + 900,
    )  # fmt: skip
    await store.ask(run, question, Entry(event="approval.requested", actor="remediator", run_id=run_id))
    return run_id


async def doubted(site: Site, folder: Path) -> Path:
    """Let the site find a checkpoint of more records than its store has; where it is."""
    file = folder / "kept.checkpoint"
    newest = {"records": 5000, "head": "a" * 64, "at": "2026-11-20T21:36:54Z"}
    file.write_text(json.dumps({**newest, "history": []}))
    service = site.service
    await service.store.append(Entry(event="x", actor="y"))
    service.keeper = Keeper(
        service.store, CheckpointFile(file), clock=service.clock, metrics=service.metrics, changed=service.wake
    )
    await service.keeper.start()
    assert service.keeper.doubt
    return file


TOKENS = {role: f"{role}-6f1d0c5b9a8e7f3d2c1b0a9f8e7d6c5b" for role in ("viewer", "operator", "approver", "admin")}
"""A token for every role."""


def users(folder: Path) -> tuple[User, ...]:
    """A user of every role, named after it, whose token is in a file in ``folder``."""
    found = []
    for role, token in TOKENS.items():
        file = folder / f"{role}.token"
        file.write_text(token + "\n")
        found.append(User(role, Role(role), str(file)))
    return tuple(found)
