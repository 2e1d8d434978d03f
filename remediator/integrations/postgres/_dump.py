"""Running pg_dump and pg_restore for one target, and what a dump file must look like."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Ended, Interrupted, execute
from remediator.integrations.postgres.target import Dumps, PostgresTarget

SUFFIX = ".dump"
_TEXT = "text format dump"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What ``pg_restore --list`` says of a dump."""

    entries: int
    tables: int


def dumps(target: PostgresTarget, name: str) -> Dumps:
    """Where dumps of that name go. Raises PermanentError."""
    found = target.dumps.get(name)
    if found is None:
        known = ", ".join(sorted(target.dumps)) or "none"
        raise PermanentError(f'the target has no dumps "{name}"; it has {known}', reason="dumps")
    if not Path(found.directory).is_dir():
        raise PermanentError(f"the directory {found.directory} does not exist", reason="directory")
    return found


def free_bytes(where: Dumps) -> int:
    """What is free where dumps go."""
    return shutil.disk_usage(where.directory).free


async def run(target: PostgresTarget, where: Dumps, argv: Sequence[str], *, connects: bool) -> Ended:
    """Run one of PostgreSQL's own programs; with ``connects`` it gets at the database."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    password = target.password() if connects else None
    if connects:
        environment |= {"PGSSLMODE": "verify-full" if target.tls else "disable", "PGAPPNAME": "pg_dump"}
        environment |= {"PGCONNECT_TIMEOUT": str(max(2, round(target.timeout)))}
        environment |= {"PGSSLROOTCERT": target.ca_file or _system_authorities()} if target.tls else {}
        environment |= {"PGPASSWORD": password} if password else {}
    secrets = [password] if password else []
    try:
        return await execute(
            argv,
            directory=where.directory,
            environment=environment,
            seconds=where.timeout,
            limit=8 * 1024 * 1024,
            secrets=secrets,
        )
    except Interrupted as error:
        # It writes to a file of its own until it is checked, so an end before that leaves nothing behind that counts.
        raise TemporaryError(str(error), reason="interrupted") from None


def _system_authorities() -> str:
    """The file of authorities that this host trusts; libpq before 16 cannot find it by itself."""
    for path in filter(None, (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")):
        if Path(path).is_file():
            return path
    raise PermanentError("this host has no file of trusted authorities; write ca_file", reason="tls")


def last_words(ended: Ended) -> str:
    """What a program said at its end, in one line."""
    return " ".join(ended.stderr.strip().splitlines()[-3:])[-500:]


async def contents(target: PostgresTarget, where: Dumps, file: Path) -> Contents:
    """What is in a dump. Raises PermanentError if it is none, or nothing."""
    if await asyncio.to_thread(os.path.getsize, file) == 0:
        raise PermanentError(f"{file} is empty", reason="empty")
    ended = await run(target, where, ["pg_restore", "--list", str(file)], connects=False)
    if ended.code != 0:
        said = last_words(ended)
        if _TEXT in said:
            raise PermanentError(
                f"{file} is a text dump, which cannot be listed or checked; make dumps with postgres.dump",
                reason="text",
            )
        raise PermanentError(f"{file} cannot be read: {said}", reason="unreadable")
    lines = [line for line in ended.stdout.splitlines() if line and not line.startswith(";")]
    return Contents(entries=len(lines), tables=sum(" TABLE DATA " in line for line in lines))


async def read_back(target: PostgresTarget, where: Dumps, file: Path) -> None:
    """Read a dump to its end: the list stands at its beginning and does not see that the rest is missing."""
    ended = await run(target, where, ["pg_restore", "--file=/dev/null", str(file)], connects=False)
    if ended.code != 0:
        raise PermanentError(f"{file} is damaged: {last_words(ended)}", reason="damaged")
