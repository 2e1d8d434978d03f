"""What a command wrote: the beginning and the end of it, without secrets, and how much was left out."""

from __future__ import annotations

import asyncio
import re


class Output:
    """Collects a stream in bounded memory. Half of ``limit`` bytes is for the beginning, half for the end."""

    def __init__(self, limit: int, secrets: list[str]) -> None:
        self._half = max(1, limit // 2)
        self._secrets = sorted((secret.encode() for secret in secrets if secret), key=len, reverse=True)
        # A secret that lies across the edge must be seen whole to be redacted, so a little more is kept.
        self._keep = self._half + max((len(secret) for secret in self._secrets), default=0)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    async def collect(self, stream: asyncio.StreamReader) -> None:
        """Read ``stream`` to its end."""
        while chunk := await stream.read(64 * 1024):
            self.add(chunk)

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._total += len(chunk)
        room = self._keep - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > self._keep:
            del self._tail[: len(self._tail) - self._keep]

    def _mask(self, raw: bytes) -> bytes:
        """``raw`` with secrets as runs of NUL of the same length, so that cutting afterwards shows no part."""
        raw = raw.replace(b"\x00", b"?")
        for secret in self._secrets:
            raw = raw.replace(secret, b"\x00" * len(secret))
        return raw

    def text(self) -> str:
        """The collected text; a line in the middle says how many bytes were left out."""
        left_out = self._total - 2 * self._half
        if len(self._head) + len(self._tail) == self._total:
            whole = self._mask(bytes(self._head + self._tail))
            if left_out <= 0:
                return _readable(whole)
            head, tail = whole, whole
        else:
            head, tail = self._mask(bytes(self._head)), self._mask(bytes(self._tail))
        beginning, end = _readable(head[: self._half]), _readable(tail[-self._half :])
        return f"{beginning}\n… {left_out} of {self._total} bytes left out …\n{end}"


def _readable(masked: bytes) -> str:
    return re.sub(rb"\x00+", b"[redacted]", masked).decode(errors="replace")
