"""Runs a program in a container: the WebSocket of pods/exec, sub-protocol ``v4.channel.k8s.io``.

Every message is one channel byte (1 standard output, 2 standard error, 3 the Status at the end) and its data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, ClientWSTimeout, WSMsgType, WSServerHandshakeError

from remediator.integrations.kubernetes._connection import Refused

_PROTOCOL = "v4.channel.k8s.io"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and the end of what it wrote."""

    code: int
    stdout: str
    stderr: str


async def execute(
    session: ClientSession, url: str, headers: Mapping[str, str], proxy: str | None, *, limit: int, seconds: float
) -> Ended:
    """Run to the end; keeps the last ``limit`` bytes of each stream.

    Raises Refused, ClientError, OSError, ValueError.
    """
    # The handshake may take as long as the program: some proxies answer it late, and both are bounded together.
    async with asyncio.timeout(seconds):
        try:
            socket = await session.ws_connect(
                url,
                headers=dict(headers),
                protocols=(_PROTOCOL,),
                proxy=proxy,
                autoping=True,
                timeout=ClientWSTimeout(ws_close=1.0),
                max_msg_size=4 * 1024 * 1024,
            )
        except WSServerHandshakeError as error:
            raise Refused(error.status, b"") from None
        async with socket:
            return await _read(socket, limit)


async def _read(socket: Any, limit: int) -> Ended:
    streams = {1: bytearray(), 2: bytearray()}
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel in streams:
            streams[channel] += data
            del streams[channel][:-limit]
        elif channel == 3:
            texts = [streams[each].decode("utf-8", errors="replace") for each in (1, 2)]
            return Ended(_code(data), *texts)
    raise OSError("the connection ended before the program did")


def _code(data: bytes) -> int:
    """The exit code in the Status that ends an exec. Raises ValueError."""
    status = json.loads(data)
    try:
        if status["status"] == "Success":
            return 0
        causes = status["details"]["causes"]
        return int(next(cause["message"] for cause in causes if cause["reason"] == "ExitCode"))
    except (KeyError, TypeError, StopIteration):
        raise ValueError(f"the program did not start: {str(status)[:200]}") from None
