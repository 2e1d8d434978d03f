"""A stand-in for a Slack workspace: its Web API and Socket Mode, with the answers and errors that Slack documents.

Faithful in what counts here: tokens are checked, refusals come as 200 with ``ok: false``, too many requests as 429 with
``Retry-After``, a Socket Mode connection begins with ``hello``, every envelope must be acknowledged by its id within
three seconds or comes again, and an address of ``apps.connections.open`` works once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

BOT = "xoxb-1234567890-botbotbot"
APP = "xapp-1-A111-222-appappapp"
SIGNING = "8f742231b10e8888abcd99yyyzzz85a5"


@dataclass
class Workspace:
    """What the workspace holds, and what it is told to answer."""

    channels: set[str] = field(default_factory=lambda: {"#incidents", "#on-call", "C0123456789"})
    messages: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    whispers: list[dict[str, Any]] = field(default_factory=list)
    refuse: list[web.Response] = field(default_factory=list)
    """Answers to be given before anything else, each once."""
    tickets: set[str] = field(default_factory=set)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    opened: int = 0
    port: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The address of the Web API."""
        return f"http://127.0.0.1:{self.port}/api"

    def _allowed(self, request: web.Request, token: str) -> web.Response | None:
        if self.refuse:
            return self.refuse.pop(0)
        given = request.headers.get("Authorization", "")
        if not given:
            return no("not_authed")
        return None if given == f"Bearer {token}" else no("invalid_auth")

    async def post_message(self, request: web.Request) -> web.Response:
        """chat.postMessage."""
        refused = self._allowed(request, BOT)
        if refused is not None:
            return refused
        message = json.loads(await request.read())
        if message["channel"] not in self.channels:
            return no("channel_not_found")
        if len(message.get("blocks", [])) > 50 or any(not _fits(block) for block in message.get("blocks", [])):
            return no("invalid_blocks")
        if not message.get("text") and not message.get("blocks"):
            return no("no_text")
        ts = f"1800000000.{len(self.messages):06d}"
        self.messages.append({**message, "ts": ts})
        return web.json_response({"ok": True, "channel": "C0123456789", "ts": ts, "message": message})

    async def post_ephemeral(self, request: web.Request) -> web.Response:
        """chat.postEphemeral."""
        refused = self._allowed(request, BOT)
        if refused is not None:
            return refused
        self.whispers.append(json.loads(await request.read()))
        return web.json_response({"ok": True, "message_ts": "1800000002.000000"})

    async def update(self, request: web.Request) -> web.Response:
        """chat.update."""
        refused = self._allowed(request, BOT)
        if refused is not None:
            return refused
        self.updates.append(json.loads(await request.read()))
        return web.json_response({"ok": True})

    async def open_connection(self, request: web.Request) -> web.Response:
        """apps.connections.open."""
        refused = self._allowed(request, APP)
        if refused is not None:
            return refused
        ticket = secrets.token_hex(8)
        self.tickets.add(ticket)
        self.opened += 1
        return web.json_response({"ok": True, "url": f"ws://127.0.0.1:{self.port}/link/?ticket={ticket}"})

    async def link(self, request: web.Request) -> web.WebSocketResponse:
        """A Socket Mode connection."""
        ticket = request.query.get("ticket", "")
        if ticket not in self.tickets:
            raise web.HTTPForbidden
        self.tickets.discard(ticket)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A111"}})
        self.connected.set()
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                data = json.loads(message.data)
                self.acknowledged.append(data["envelope_id"])
                self.heard.set()
        return socket

    async def send(self, payload: dict[str, Any], envelope_id: str = "") -> str:
        """Hand an interactive payload to the connected app; the envelope's id."""
        envelope_id = envelope_id or secrets.token_hex(8)
        self.heard.clear()
        envelope = {
            "envelope_id": envelope_id,
            "type": "interactive",
            "accepts_response_payload": False,
            "payload": payload,
        }
        await self.sockets[-1].send_json(envelope)
        return envelope_id


def no(error: str) -> web.Response:
    """A refusal as Slack words it: status 200 and ``ok: false``."""
    return web.json_response({"ok": False, "error": error})


def too_many(seconds: int) -> web.Response:
    """The answer to too many requests."""
    return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(seconds)})


def _fits(block: dict[str, Any]) -> bool:
    """The limits of Block Kit."""
    limit = {"header": 150, "section": 3000}.get(block["type"])
    if limit is not None:
        return 1 <= len(block["text"]["text"]) <= limit
    return all(len(element["value"]) <= 2000 for element in block["elements"])


def click(message: dict[str, Any], user: str, *, at: float, yes: bool = True) -> dict[str, Any]:
    """The payload of a person's click on a button of ``message`` (Slack, "block_actions payloads")."""
    (actions,) = [block for block in message["blocks"] if block["type"] == "actions"]
    element = actions["elements"][0 if yes else 1]
    return {
        "type": "block_actions",
        "api_app_id": "A111",
        "team": {"id": "T111", "domain": "example"},
        "user": {"id": user, "username": "somebody", "team_id": "T111"},
        "container": {"type": "message", "message_ts": message["ts"], "channel_id": "C0123456789"},
        "channel": {"id": "C0123456789", "name": "incidents"},
        "message": {"ts": message["ts"], "text": message["text"], "blocks": message["blocks"]},
        "actions": [
            {
                "type": "button",
                "block_id": actions["block_id"],
                "action_id": element["action_id"],
                "value": element["value"],
                "action_ts": f"{at:.6f}",
            }
        ],
    }


def secrets_in(directory: Path) -> dict[str, Any]:
    """The settings of a target that name the files with the workspace's secrets."""
    files = {"bearer_token_file": BOT, "app_token_file": APP, "signing_secret_file": SIGNING}
    for name, secret in files.items():
        (directory / name).write_text(secret + "\n")
    return {name: str(directory / name) for name in files}


@contextlib.asynccontextmanager
async def workspace() -> AsyncIterator[Workspace]:
    """A running workspace."""
    it = Workspace()
    application = web.Application()
    application.router.add_post("/api/chat.postMessage", it.post_message)
    application.router.add_post("/api/chat.update", it.update)
    application.router.add_post("/api/chat.postEphemeral", it.post_ephemeral)
    application.router.add_post("/api/apps.connections.open", it.open_connection)
    application.router.add_get("/link/", it.link)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    it.port = runner.addresses[0][1]
    try:
        yield it
    finally:
        for socket in it.sockets:
            await socket.close()
        await runner.cleanup()
