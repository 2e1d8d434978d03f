"""Reading secrets from files at the moment they are used, so that rotating a file is enough."""

from __future__ import annotations

from pathlib import Path

from remediator.errors import PermanentError, TemporaryError
from remediator.redact import register_secret

_LIMIT = 64 * 1024


def read_secret(path: str, field: str) -> str:
    """The text of the secret file ``path`` without surrounding white space; from now on it is redacted everywhere.

    ``field`` is the setting that named the file; messages say it and never a part of the content.
    Raises TemporaryError when the file cannot be read (a rotation may be under way) and PermanentError when it
    holds nothing that can be a secret.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_LIMIT + 1)
    except OSError as error:
        raise TemporaryError(f"{field} {path} cannot be read: {error.strerror}", reason="secret") from None
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > _LIMIT:
        raise PermanentError(f"{field} {path} must hold 1 byte to 64 KiB of UTF-8 text", reason="secret")
    register_secret(text)
    return text


def redact(text: bytes, secrets: list[str]) -> bytes:
    """``text`` with every secret replaced by ``[redacted]``; secrets under four characters are left alone.

    Shorter values would turn ordinary words into holes and protect nothing.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret.encode(), b"[redacted]")
    return text
