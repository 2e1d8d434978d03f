"""The way Slack reaches us without an open port: a Socket Mode connection, kept up, that hands over what people press.

Source: Slack, "Using Socket Mode": an envelope that is not acknowledged within three seconds comes again, perhaps over
another connection. It is acknowledged only once it was dealt with, so a click is never lost, and whoever hears must not
mind hearing it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from remediator.errors import ActionError
from remediator.integrations._secret import read_secret
from remediator.integrations.slack.target import SlackTarget

_log = structlog.get_logger("remediator.slack")
_SECONDS = 2.5

Heard = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Deals with one interactive payload. Raising leaves the envelope without its acknowledgement."""


class Socket:
    """One connection to Slack, renewed for ever."""

    def __init__(self, target: SlackTarget, heard: Heard) -> None:
        self._target = target
        self._heard = heard
        self._client: Any = None
        self._connecting: asyncio.Task[None] | None = None
        self.connected = False
        """Whether Slack can reach us now."""

    async def for_ever(self) -> None:
        """Connect and stay connected, also when the token is replaced; ends by cancellation."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._target.ping)
        finally:
            await self._close()

    async def _look(self) -> None:
        try:
            token = read_secret(self._target.app_token_file or "", "app_token_file")
            if self._client is None or self._client.app_token != token:
                await self._close()
                self._client = self._made(token)
                # It tries again by itself until it is connected, which may be never: nobody waits for it.
                self._connecting = asyncio.create_task(self._client.connect())
                await asyncio.wait([self._connecting], timeout=self._target.ping)
            up = bool(await self._client.is_connected())
        except ActionError as error:
            up = False
            _log.error("answers in Slack cannot be heard", error=str(error))
        if up != self.connected:
            tell = _log.info if up else _log.error
            tell("answers in Slack are heard" if up else "answers in Slack are not heard now", target=self._target.name)
        self.connected = up

    def _made(self, token: str) -> Any:
        from slack_sdk.socket_mode.aiohttp import SocketModeClient
        from slack_sdk.web.async_client import AsyncWebClient

        # Its own words hold whole payloads and addresses with tickets; what matters is said above.
        quiet = logging.getLogger("remediator.slack.library")
        quiet.setLevel(logging.CRITICAL + 1)
        context = ssl.create_default_context(cafile=self._target.ca_file)
        caller = AsyncWebClient(
            base_url=self._target.base_url + "/", ssl=context, timeout=int(self._target.timeout) or 1, logger=quiet
        )
        client = SocketModeClient(token, quiet, caller, ping_interval=self._target.ping)
        # Proxies of the environment are for people, not for services.
        caller.proxy, client.proxy = None, None
        client.socket_mode_request_listeners.append(self._listen)
        return client

    async def _listen(self, client: Any, request: Any) -> None:
        try:
            if request.type == "interactive":
                async with asyncio.timeout(_SECONDS):
                    await self._heard(request.payload)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer; Slack sends it again.
            _log.exception("a click in Slack could not be dealt with; it comes again", error=type(error).__name__)
            return
        await client.send_socket_mode_response({"envelope_id": request.envelope_id})

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is None or self._connecting is None:
            return
        self._connecting.cancel()
        await client.close()
        tasks = (self._connecting, client.message_processor, client.current_session_monitor, client.message_receiver)
        for task in tasks:
            if task is not None:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
