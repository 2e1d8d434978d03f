"""Numbered migrations: which there are for a dialect, and whether a store fits this code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from remediator.errors import StoreError


class Migration(NamedTuple):
    """One numbered step of a schema; ``sha256`` shows that an applied one was not edited afterwards."""

    version: int
    name: str
    sql: str
    sha256: str


class Step(NamedTuple):
    """A migration and when it was applied (Unix seconds); None while it is still to be."""

    version: int
    name: str
    applied_at: float | None


def migrations(dialect: str) -> Sequence[Migration]:
    """All migrations of ``dialect`` in order, from ``migrations/<dialect>/NNNN_name.sql``."""
    folder = resources.files("remediator.stores") / "migrations" / dialect
    found = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".sql"):
            sql = file.read_text(encoding="utf-8")
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, sql, hashlib.sha256(sql.encode()).hexdigest()))
    return found


def pending(known: Sequence[Migration], applied: Sequence[tuple[int, str]]) -> Sequence[Migration]:
    """The migrations that are still to be applied.

    ``applied`` is (version, sha256) as stored. Raises StoreError when the store is newer than this code, or when an
    applied migration is not the one that this code knows.
    """
    by_version = {migration.version: migration for migration in known}
    for version, digest in applied:
        if version not in by_version:
            raise StoreError(
                f"the store has schema version {version}, newer than this program knows ({max(by_version)});"
                " install the newer version"
            )
        if by_version[version].sha256 != digest:
            raise StoreError(f"migration {version} was applied in another form than this program has; restore a backup")
    done = {version for version, _ in applied}
    return [migration for migration in known if migration.version not in done]


def steps(known: Sequence[Migration], applied: Sequence[tuple[int, str, str, float]]) -> list[Step]:
    """All migrations, those that are still to be applied last.

    ``applied`` is (version, name, sha256, applied_at) as stored. Raises StoreError like ``pending``.
    """
    missing = pending(known, [(row[0], row[2]) for row in applied])
    done = [Step(version, name, at) for version, name, _, at in applied]
    return [*done, *(Step(migration.version, migration.name, None) for migration in missing)]
