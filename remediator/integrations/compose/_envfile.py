"""Files of variables (``.env``): one value is read or replaced, and every other byte stays as it is."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from remediator.errors import PermanentError, TemporaryError

_SECRET_NAME = re.compile(r"(?i)token|secret|passw|passphrase|credential|private|salt|_key$|^key$|_dsn$|apikey")
_USERINFO = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_LIMIT = 1024 * 1024


def is_secret(name: str) -> bool:
    """True if the variable's name says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


def _line(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"^[ \t]*(?:export[ \t]+)?" + re.escape(name.encode()) + rb"[ \t]*=([^\r\n]*)", re.MULTILINE)


def read(path: str, name: str) -> str | None:
    """The value of ``name``; None if the file does not set it.

    Raises PermanentError for a file that cannot be used, that sets it twice, or whose value holds a password.
    """
    found = list(_line(name).finditer(_bytes(path)))
    if len(found) > 1:
        raise PermanentError(f"{path} sets {name} {len(found)} times; leave one of them", reason="ambiguous")
    if not found:
        return None
    try:
        value = found[0][1].decode().strip()
    except UnicodeDecodeError:
        raise PermanentError(f"{path}: the value of {name} is not UTF-8", reason="malformed") from None
    if _USERINFO.search(value):
        raise PermanentError(f"the value of {name} holds a password, which no change may show", reason="secret")
    return value


def write(path: str, name: str, value: str | None) -> None:
    """Set ``name``, or with None remove it; the file is replaced in one step and keeps its mode and owner."""
    raw = _bytes(path)
    match = _line(name).search(raw)
    if value is None:
        rest = b"" if match is None else raw[match.end() :].removeprefix(b"\r").removeprefix(b"\n")
        new = raw if match is None else raw[: match.start()] + rest
    elif match is None:
        new = raw + (b"" if raw.endswith(b"\n") or not raw else b"\n") + f"{name}={value}\n".encode()
    else:
        new = raw[: match.start(1)] + value.encode() + raw[match.end(1) :]
    if new != raw:
        _replace(path, new)


def _bytes(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_LIMIT + 1)
    except FileNotFoundError:
        raise PermanentError(f"{path} does not exist", reason="not_found") from None
    except OSError as error:
        raise TemporaryError(f"{path} cannot be read: {error.strerror}", reason="file") from None
    if len(raw) > _LIMIT:
        raise PermanentError(f"{path} is larger than 1 MiB", reason="malformed")
    return raw


def _replace(path: str, new: bytes) -> None:
    """Raises PermanentError where the folder may not be written; whoever reads sees the old file or the new one."""
    # A link is followed, so that it stays one.
    real = os.path.realpath(path)
    seen = os.stat(real)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".remediator-")
    except OSError as error:
        raise PermanentError(f"{path} cannot be replaced: {error.strerror}", reason="permission") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(new)
            os.fchmod(file.fileno(), seen.st_mode & 0o7777)
            if (os.geteuid(), os.getegid()) != (seen.st_uid, seen.st_gid):
                os.fchown(file.fileno(), seen.st_uid, seen.st_gid)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, real)
    except OSError as error:
        os.unlink(temporary)
        raise PermanentError(f"{path} cannot be replaced: {error.strerror}", reason="permission") from None
