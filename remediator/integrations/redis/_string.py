"""Text under a key, and changing it only if it still is what was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.errors import PermanentError
from remediator.integrations.redis.target import RedisTarget

if TYPE_CHECKING:
    from remediator.integrations.redis._server import Server

_LONGEST = 64 * 1024

SET = """
local now = redis.call('GET', KEYS[1])
if (ARGV[1] == '') ~= (not now) or (now and now ~= ARGV[2]) then return 0 end
if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3]) else redis.call('SET', KEYS[1], ARGV[3], ARGV[4], ARGV[5]) end
return 1
"""
"""Sets KEYS[1] to ARGV[3], with expiry ARGV[4] (PX, PXAT or empty) ARGV[5]; only if it is ARGV[2], or with an empty
ARGV[1] only if there is none."""

DELETE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
"""Removes KEYS[1], only if it is ARGV[1]."""


def must_be_listed(target: RedisTarget, key: str) -> None:
    """Keys that may be changed stand in the settings letter by letter. Raises PermanentError."""
    if key not in target.permit.get("writable_keys", []):
        raise PermanentError(
            f'target "{target.name}" does not list "{key}" in permit.writable_keys; keys that are changed stand there '
            "letter by letter, without wildcards",
            reason="permit",
        )


async def read_text(server: Server, key: str) -> tuple[str | None, int | None]:
    """The text under ``key`` and when it expires (Unix milliseconds); None for each that there is not.

    Raises PermanentError for what cannot be kept in order to be put back: another type, bytes, or very much.
    """
    kind = (await server.ask("TYPE", key)).decode()
    if kind == "none":
        return None, None
    if kind != "string":
        raise PermanentError(f'"{key}" holds a {kind} and no text', reason="type")
    if int(await server.ask("STRLEN", key)) > _LONGEST:
        raise PermanentError(f'"{key}" is longer than 64 KiB and could not be put back', reason="size")
    raw = await server.ask("GET", key)
    if raw is None:
        return None, None
    try:
        text: str = raw.decode()
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" in text:
        raise PermanentError(f'"{key}" holds bytes that are no text and could not be put back', reason="type")
    expires = int(await server.ask("PEXPIRETIME", key))
    return text, expires if expires > 0 else None
