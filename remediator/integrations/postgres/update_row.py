"""``postgres.update_row``: change one row of a table that the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import format_duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres._names import LONGEST, Column, Name, Text, quoted
from remediator.integrations.postgres.target import PostgresTarget, Row

Cell = Text | int | bool | None
"""What a column is set to; text is read by PostgreSQL as the column's own type."""

_TYPES = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY($2::text[])
"""


class UpdateRow(Action[PostgresTarget]):
    """Sets columns of exactly one row, only if the row still is as it was shown.

    Table, key and columns, and the texts they may hold, stand in the settings; the rule gives the key and the values,
    which are always bound parameters. The former values are kept, and come back when the change is taken back.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"row"})

    row: Name = Field(description="The kind of row, by its name in the settings of the target.")
    key: Text | int = Field(description="The value of the key column.")
    set: dict[Column, Cell] = Field(min_length=1, max_length=50, description="Columns and what they are set to.")
    only_if: dict[Column, Cell] = Field(
        default_factory=dict, max_length=50, description="Columns and what they must be now, such as `state: open`."
    )

    @model_validator(mode="after")
    def _key_has_text(self) -> UpdateRow:
        if self.key == "":
            raise ValueError("an empty key names no row")
        return self

    def needs(self) -> Mapping[str, str]:
        """The kind of row must be permitted."""
        return {"rows": self.row}

    def subject(self) -> str:
        """The one row."""
        return f"row/{self.row}/{self.key}"

    def _settings(self, target: PostgresTarget) -> Row:
        settings = target.rows.get(self.row)
        if settings is None:
            known = ", ".join(sorted(target.rows)) or "none"
            raise PermanentError(f'the target has no kind of row "{self.row}"; it has {known}', reason="row")
        for name in (*self.set, *self.only_if):
            if name not in settings.columns:
                raise PermanentError(
                    f'column "{name}" is not among those of {self.row}: {", ".join(settings.columns)}', reason="column"
                )
        self._listed(settings)
        return settings

    def _listed(self, settings: Row) -> None:
        """Raises PermanentError for a value that the settings do not list for its column."""
        for name, value in (*self.set.items(), *self.only_if.items()):
            listed = settings.columns[name]
            if listed and _as_text(value) not in listed:
                raise PermanentError(
                    f"{name} may be {', '.join(listed)} and not {_shown(_as_text(value))}", reason="value"
                )

    async def diff(self, target: PostgresTarget, context: ActionContext) -> Change:
        """The columns now and as they would be, in PostgreSQL's own text. Raises TemporaryError, PermanentError."""
        settings = self._settings(target)

        async def work(connection: Any) -> tuple[dict[str, str | None], ...]:
            types = await _types(connection, settings)
            now = await self._now(connection, settings, types)
            wanted = await _normal(connection, types, self.set)
            return now, wanted, await _normal(connection, types, self.only_if)

        client = await target.client()
        now, wanted, must = await client.look(target, work)
        before = {name: now[name] for name in wanted}
        if before != wanted:
            for name, value in must.items():
                if now[name] != value:
                    raise PermanentError(
                        f"{self.row} {self.key}: {name} is {_shown(now[name])} and not the {_shown(value)} that this "
                        "change is made for",
                        reason="changed",
                    )
            self._can_come_back(settings, before, wanted)
            self._old_enough(settings, now)
        # What was asked for and not set decides too, and so belongs to what is approved and compared.
        besides = {name: now[name] for name in must if name not in wanted}
        return Change(
            summary=f"set {', '.join(wanted)} of {self.row} {self.key}",
            before={"key": self.key, "row": {**before, **besides}},
            after={"key": self.key, "row": {**wanted, **besides}},
        )

    async def _now(self, connection: Any, settings: Row, types: Mapping[str, str]) -> dict[str, str | None]:
        """All columns of the settings as text, and the seconds since ``wait.column``; exactly one row."""
        shown = [f"{quoted(name)}::text AS {quoted(name)}" for name in settings.columns]
        if settings.wait is not None:
            shown.append(_AGE.format(quoted(settings.wait.column)))
        rows = await connection.fetch(
            f"SELECT {', '.join(shown)} FROM {quoted(settings.table)} "  # noqa: S608 - names of the settings, quoted
            f"WHERE {quoted(settings.key)} = CAST($1::text AS {types[settings.key]}) LIMIT 2",
            str(self.key),
        )
        if len(rows) != 1:
            how = "no row" if not rows else "more than one row"
            raise PermanentError(f"there is {how} of {self.row} {self.key}", reason="not_one_row")
        return dict(rows[0])

    def _can_come_back(self, settings: Row, before: Mapping[str, str | None], wanted: Mapping[str, str | None]) -> None:
        """Raises PermanentError for a value that is there and could not be put back."""
        if any(len(value or "") > LONGEST for value in (*before.values(), *wanted.values())):
            raise PermanentError(f"{self.row} {self.key} holds more text than could be put back", reason="no_way_back")
        for name, value in before.items():
            listed = settings.columns[name]
            if listed and value not in listed:
                raise PermanentError(
                    f"{name} is {_shown(value)}, which the settings do not list, so it could not be put back",
                    reason="no_way_back",
                )

    def _old_enough(self, settings: Row, now: Mapping[str, Any]) -> None:
        """Raises TemporaryError while it is too early, PermanentError if no one knows."""
        if settings.wait is None:
            return
        age = now["?age"]
        if age is None:
            raise PermanentError(f"{self.row} {self.key} has no {settings.wait.column}", reason="wait")
        if age < settings.wait.age:
            raise TemporaryError(
                f"{settings.wait.column} of {self.row} {self.key} is less than "
                f"{format_duration(settings.wait.age)} ago; it is waited, it may get well by itself",
                reason="too_early",
            )

    async def apply(self, target: PostgresTarget, change: Change, context: ActionContext) -> Outcome:
        """Set them, if the row still is as shown, and only if it is one row. Raises Unanswered (unknown)."""
        settings = self._settings(target)
        if change.after["key"] != self.key:
            raise PermanentError("the row is no longer the one that was shown", reason="changed")
        before, after = change.before["row"], change.after["row"]

        async def work(connection: Any) -> None:
            types = await _types(connection, settings)
            query, values = _update(settings, types, str(self.key), before, after)
            if len(await connection.fetch(query, *values)) != 1:
                raise TemporaryError(f"{self.row} {self.key} has changed since it was looked at", reason="conflict")

        client = await target.client()
        await client.change(target, context.check_deadline, work)
        return Outcome(summary=change.summary, data={"key": self.key, "row": dict(after)})

    async def verify(self, target: PostgresTarget, change: Change, context: ActionContext) -> None:
        """Returns if the row is as it was left. Raises PermanentError if it no longer is."""
        now = await self._seen(target, change)
        if now != dict(change.after["row"]):
            raise PermanentError(f"{self.row} {self.key} is not as it was left: somebody changed it", reason="changed")

    async def _seen(self, target: PostgresTarget, change: Change) -> dict[str, str | None]:
        settings = self._settings(target)

        async def work(connection: Any) -> dict[str, str | None]:
            return await self._now(connection, settings, await _types(connection, settings))

        client = await target.client()
        now = await client.look(target, work)
        return {name: now[name] for name in change.after["row"]}

    def inverse(self, change: Change) -> UpdateRow:
        """The values of before, only if the columns are as this change left them."""
        before, after = change.before["row"], change.after["row"]
        names = [name for name in before if before[name] != after[name]] or list(self.set)
        return UpdateRow(
            row=self.row,
            key=self.key,
            set={name: before[name] for name in names},
            only_if={name: after[name] for name in names},
        )

    async def reconcile(self, target: PostgresTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the columns are those of after, no if those of before, else unknown."""
        now = await self._seen(target, change)
        if now == dict(change.after["row"]):
            return Happened.YES
        return Happened.NO if now == dict(change.before["row"]) else Happened.UNKNOWN


_AGE = 'extract(epoch FROM clock_timestamp() - {}::timestamptz)::float8 AS "?age"'


def _shown(value: str | None) -> str:
    return "NULL" if value is None else f'"{value[:100]}"'


async def _types(connection: Any, settings: Row) -> dict[str, str]:
    """The type of every column, as SQL writes it."""
    names = [settings.key, *settings.columns, *([settings.wait.column] if settings.wait else [])]
    found = {row["name"]: row["type"] for row in await connection.fetch(_TYPES, quoted(settings.table), names)}
    if missing := [name for name in names if name not in found]:
        raise PermanentError(f'{settings.table} has no column "{missing[0]}"', reason="column")
    return found


async def _normal(connection: Any, types: Mapping[str, str], values: Mapping[str, Cell]) -> dict[str, str | None]:
    """``values`` as PostgreSQL writes them once they have the type of their column."""
    if not values:
        return {}
    columns = [f"CAST(${at}::text AS {types[name]})::text AS {quoted(name)}" for at, name in enumerate(values, 1)]
    row = await connection.fetchrow(
        f"SELECT {', '.join(columns)}",
        *(_as_text(value) for value in values.values()),
    )
    return dict(row)


def _as_text(value: Cell) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _update(
    settings: Row, types: Mapping[str, str], key: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[str, Sequence[str | None]]:
    """The statement that changes one row, and its values: the key, what is set, what must be there."""
    values: list[str | None] = [key]
    assignments, conditions = [], [f"{quoted(settings.key)} = CAST($1::text AS {types[settings.key]})"]
    for name, value in after.items():
        if value != before[name]:
            values.append(value)
            assignments.append(f"{quoted(name)} = CAST(${len(values)}::text AS {types[name]})")
    for name, value in before.items():
        values.append(value)
        conditions.append(f"{quoted(name)}::text IS NOT DISTINCT FROM ${len(values)}::text")
    query = (
        f"UPDATE {quoted(settings.table)} SET {', '.join(assignments)} "  # noqa: S608 - names of the settings, quoted
        f"WHERE {' AND '.join(conditions)} RETURNING 1"
    )
    return query, values
