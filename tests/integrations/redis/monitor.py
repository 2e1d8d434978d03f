"""What a Redis server was told, by its own account: the stream of MONITOR (redis.io/docs/latest/commands/monitor)."""

from __future__ import annotations

import re
import socket

from tests.redis import RedisServer

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SIGN = re.compile(r"\\(x[0-9a-f]{2}|.)")
_SIGNS = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b"}
_HARMLESS = {
    *("hello", "client", "ping", "select", "auth", "info", "command", "config", "script", "cluster", "role"),
    *("get", "exists", "type", "llen", "lrange", "ttl", "pttl", "hget", "hmget", "hgetall", "dump", "time"),
}
"""Words that change nothing."""


class Monitor:
    """Listens from now on; ``left`` are the words that changed something since it was last asked."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self._socket.sendall(b"MONITOR\r\n")
        self._rest = b""
        self._read_until(b"+OK\r\n")

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._rest:
            chunk = self._socket.recv(1 << 20)
            assert chunk, "the server ended"
            self._rest += chunk
        found, _, self._rest = self._rest.partition(end)
        return found

    def left(self) -> list[list[str]]:
        """Every command with its arguments, byte for byte."""
        self._server.tell("PING", "that is all")
        lines = self._read_until(b'"that is all"\r\n').decode().splitlines()
        commands = [[_plain(word) for word in _WORD.findall(line)] for line in lines]
        return [words for words in commands if words and words[0].lower() not in _HARMLESS]

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def _plain(word: str) -> str:
    """A word without the escapes that MONITOR writes."""
    raw = _SIGN.sub(lambda found: _sign(found[1]), word)
    return raw.encode("latin-1").decode(errors="replace")


def _sign(text: str) -> str:
    return chr(int(text[1:], 16)) if len(text) == 3 else _SIGNS.get(text, text)
