"""``postgres.execute``: run a statement of the operator that changes something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError
from remediator.integrations.postgres._names import Name
from remediator.integrations.postgres._statement import Given, Statement
from remediator.integrations.postgres._values import row
from remediator.integrations.postgres.target import PostgresTarget

_COUNT = re.compile(r" ([0-9]+)$")


class Execute(Action[PostgresTarget]):
    """Runs a named statement of the target in one transaction, with values as bound parameters.

    When it changes more rows than the settings allow, everything is rolled back. A person approves it,
    unless the settings let the statement be executed unattended.
    """

    effect: ClassVar[Effect] = Effect.ONCE
    literal: ClassVar[frozenset[str]] = frozenset({"statement"})

    statement: Name = Field(description="The statement's name in the settings of the target.")
    parameters: dict[str, Given] = Field(
        default_factory=dict, max_length=50, description="Values for the statement's parameters."
    )

    def effect_on(self, target: PostgresTarget) -> Effect:
        """What the operator declared for the statement; ``once`` for one that is not there."""
        statement = target.statements.get(self.statement)
        return Effect(statement.effect) if statement else Effect.ONCE

    def needs_approval(self, target: PostgresTarget) -> bool:
        """True unless the settings let this very statement be executed without anybody."""
        statement = target.statements.get(self.statement)
        return statement is None or not statement.unattended

    def needs(self) -> Mapping[str, str]:
        """The statement must be permitted."""
        return {"statements": self.statement}

    def subject(self) -> str:
        """The statement: two runs never run the same one at once."""
        return f"statement/{self.statement}"

    def _bound(self, target: PostgresTarget) -> tuple[Statement, list[Given]]:
        statement = target.statements.get(self.statement)
        if statement is None or not statement.changes:
            known = ", ".join(sorted(name for name, each in target.statements.items() if each.changes)) or "none"
            raise PermanentError(
                f'the target has no statement "{self.statement}" with changes: true; it has {known}', reason="statement"
            )
        try:
            return statement, statement.bind(self.parameters)
        except ValueError as error:
            raise PermanentError(f"{self.statement}: {error}", reason="parameter") from None

    async def diff(self, target: PostgresTarget, context: ActionContext) -> Change:
        """The statement and its values. What it would change is not known, so it is never empty.

        PostgreSQL is asked whether it understands the statement. Raises TemporaryError, PermanentError.
        """
        statement, values = self._bound(target)
        client = await target.client()
        await client.look(target, lambda connection: connection.prepare(statement.sql))
        undo = {} if statement.undo is None else {"undo": statement.undo}
        kept = target.statements[statement.undo].parameters if statement.undo else []
        given = {each.name: value for each, value in zip(statement.parameters, values, strict=True)}
        return Change(
            summary=f"execute {self.statement}",
            before={},
            after={"sql": statement.sql, "parameters": given, "max_rows": statement.max_rows},
            volatile={**undo, "kept": {each.name: given[each.name] for each in kept}},
        )

    async def apply(self, target: PostgresTarget, change: Change, context: ActionContext) -> Outcome:
        """Run it and commit. Raises Unanswered (unknown) when the commit was sent and no word of it came."""
        statement, values = self._bound(target)
        given = {each.name: value for each, value in zip(statement.parameters, values, strict=True)}
        if change.after != {"sql": statement.sql, "parameters": given, "max_rows": statement.max_rows}:
            raise PermanentError("the statement is no longer the one that was shown", reason="changed")

        async def work(connection: Any) -> tuple[str, list[Any]]:
            prepared = await connection.prepare(statement.sql)
            rows = await prepared.fetch(*values)
            status: str = prepared.get_statusmsg()
            count = _count(status)
            if count > statement.max_rows:
                raise PermanentError(
                    f"{self.statement} would change {count} rows, more than {statement.max_rows}; rolled back",
                    reason="too_many_rows",
                )
            return status, rows

        client = await target.client()
        status, rows = await client.change(target, context.check_deadline, work, seconds=statement.timeout)
        return Outcome(
            summary=f"{self.statement}: {status}",
            data={
                "status": status,
                "count": _count(status),
                "rows": [row(record, statement.hide) for record in rows[: statement.max_rows]],
            },
        )

    def inverse(self, change: Change) -> Execute | None:
        """The statement's ``undo`` with the same parameters; None if the operator named none."""
        undo = change.volatile.get("undo")
        if not undo:
            return None
        return Execute(statement=undo, parameters=dict(change.volatile.get("kept", {})))


def _count(status: str) -> int:
    """The number at the end of a command tag such as ``UPDATE 3`` (protocol-message-formats, CommandComplete)."""
    match = _COUNT.search(status)
    return int(match[1]) if match else 0
