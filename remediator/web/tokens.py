"""Bearer tokens in files: read, checked for strength, compared in constant time, and read again when the file changes.

One token a line, bare or as ``name:token``; ``#`` begins a comment. Several are valid at once, so that one can be
replaced without a gap: add the new one, switch the sender, remove the old one (RFC 6750 for the shape of a token).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
from typing import NamedTuple

from remediator.errors import InputError
from remediator.redact import register_secret

BITS = 128
"""A token must be at least this hard to guess."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_LARGEST = 65536


class Token(NamedTuple):
    """A name and the SHA-256 of the token; the token itself is not kept."""

    name: str
    digest: bytes


class TokenFile:
    """The tokens of one file. ``default`` names those lines that name nobody."""

    def __init__(self, path: str, default: str) -> None:
        self.path = path
        self.default = default
        self._seen: tuple[int, ...] = ()
        self._tokens: tuple[Token, ...] = ()

    def tokens(self) -> tuple[Token, ...]:
        """The tokens as the file holds them now. Raises InputError when it cannot be read or holds a weak one."""
        try:
            # Following a symbolic link: Kubernetes replaces a mounted secret by switching one.
            status = os.stat(self.path)
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                with open(self.path, encoding="utf-8") as file:
                    text = file.read(_LARGEST + 1)
                self._tokens = read_tokens(text, self.path, self.default)
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            self._seen, self._tokens = (), ()
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise InputError(f"{self.path}: the tokens cannot be read: {why}") from None
        except InputError:
            self._seen, self._tokens = (), ()
            raise
        return self._tokens


def read_tokens(text: str, file: str, default: str) -> tuple[Token, ...]:
    """The tokens in ``text``; each is registered as a secret. Raises InputError with the line, never the token."""
    if len(text) > _LARGEST:
        raise InputError(f"{file}: a token file has at most {_LARGEST} characters")
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, token = line.partition(":")
        name, token = (name.strip(), token.strip()) if colon else (default, line)
        where, make_one = f"{file}:{number}", "make one: openssl rand -hex 32"
        if not _NAME.fullmatch(name):
            raise InputError(f"{where}: a name before a token has letters, digits, dots, dashes and underscores")
        if not _TOKEN.fullmatch(token):
            raise InputError(f"{where}: a token has letters, digits and . _ ~ + / - only; {make_one}")
        if _bits(token) < BITS:
            raise InputError(f"{where}: this token is too easy to guess; {make_one}")
        register_secret(token)
        found.append(Token(name, hashlib.sha256(token.encode()).digest()))
    if not found:
        raise InputError(f"{file}: holds no token; write one a line, made by: openssl rand -hex 32")
    return tuple(found)


_ALPHABETS = (
    (r"\d*", 10), (r"[\da-f]*", 16), (r"[\dA-F]*", 16), (r"[a-z]*", 26), (r"[A-Z2-7]*", 32), (r"[a-z\d]*", 36),
)  # fmt: skip


def _bits(token: str) -> float:
    # What a random text over the smallest alphabet it fits would have; few different letters show it is not random.
    text = token.rstrip("=")
    size = next((size for pattern, size in _ALPHABETS if re.fullmatch(pattern, text)), 64)
    return len(text) * math.log2(size) if len(set(text)) >= min(size, 10) * 0.8 else 0.0


def find(tokens: tuple[Token, ...], presented: str) -> str | None:
    """The name of the presented token, or None. Takes the same time whichever it is and whether it is any."""
    digest = hashlib.sha256(presented.encode()).digest()
    name = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            name = token.name
    return name


def bearer(header: str) -> str:
    """The token of an Authorization header, or an empty string (RFC 6750 section 2.1; the scheme in any case)."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
