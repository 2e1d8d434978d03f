"""Tests of the action postgres.execute, against a real server."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydantic import ValidationError

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres.execute import Execute
from tests.integrations.corpus import PAYLOADS
from tests.integrations.postgres.servers import STATEMENTS, client, one_postgres, sql, target_of
from tests.integrations.support import HandClock, acting
from tests.postgres import Postgres

SQL = STATEMENTS["put-note"]["sql"]
PUT = Execute(statement="put-note", parameters={"id": 1, "text": "hello"})


@pytest.fixture
def server() -> Postgres:
    """The shared server without notes."""
    found = one_postgres()
    sql(found, "TRUNCATE notes")
    return found


async def test_done_and_taken_back(server: Postgres) -> None:
    """The statement that was shown is carried out once, and its undo gets the same values."""
    target = target_of(server)
    change = await PUT.diff(target, acting())
    assert change.after["parameters"] == {"id": 1, "text": "hello"}
    assert sql(server, "SELECT count(*) FROM notes") == "0"
    outcome = await PUT.apply(target, change, acting())
    assert outcome.data["status"] == "INSERT 0 1"
    inverse = PUT.inverse(change)
    assert inverse is not None
    stored = json.loads(json.dumps(inverse.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    back = Execute.model_validate(stored)
    assert back == Execute(statement="drop-note", parameters={"id": 1})
    assert (await back.apply(target, await back.diff(target, acting()), acting())).data["count"] == 1
    assert back.inverse(await back.diff(target, acting())) is None
    assert sql(server, "SELECT count(*) FROM notes") == "0"


async def test_too_many_rows_are_rolled_back(server: Postgres) -> None:
    """A statement that would change more than the operator allows changes nothing."""
    sql(server, "INSERT INTO notes VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    action = Execute(statement="drop-notes")
    with pytest.raises(PermanentError, match="would change 3 rows") as caught:
        await action.apply(target_of(server), await action.diff(target_of(server), acting()), acting())
    assert caught.value.reason == "too_many_rows"
    assert sql(server, "SELECT count(*) FROM notes") == "3"


async def test_what_the_server_refuses_did_not_happen(server: Postgres) -> None:
    """A broken constraint and a lock that is held roll back; the one for good, the other for now."""
    target = target_of(server, timeout="1s")
    change = await PUT.diff(target, acting())
    await PUT.apply(target, change, acting())
    with pytest.raises(PermanentError, match="duplicate key"):
        await PUT.apply(target, change, acting())
    async with client(server, "locker", user="superuser") as locker:
        await locker.execute("BEGIN; LOCK TABLE notes")
        with pytest.raises(TemporaryError):
            await PUT.apply(target, change, acting())
    assert sql(server, "SELECT count(*) FROM notes") == "1"


async def test_a_licence_that_runs_out_under_way_commits_nothing(server: Postgres) -> None:
    """The deadline is asked again right before the commit."""

    class Slow(HandClock):
        """An hour later at every second question."""

        asked = 0

        def monotonic(self) -> float:
            """The time, and then much more."""
            self.asked += 1
            return self.at if self.asked < 3 else self.at + 3600

    clock = Slow()
    context = acting(clock)
    change = await PUT.diff(target_of(server), acting())
    with pytest.raises(TemporaryError, match="ran out"):
        await PUT.apply(target_of(server), change, context)
    assert clock.asked == 3
    assert sql(server, "SELECT count(*) FROM notes") == "0"


async def test_only_named_statements_that_change(server: Postgres) -> None:
    """Queries, unknown names and wrong values are refused, and a statement that is wrong before it is approved."""
    target = target_of(server)
    for action, said in (
        (Execute(statement="cards"), "with changes: true"),
        (Execute(statement="put-note", parameters={"id": 1}), "is missing"),
        (Execute(statement="put-note", parameters={"id": "1", "text": "x"}), "whole number"),
    ):
        with pytest.raises(PermanentError, match=said):
            await action.diff(target, acting())
    wrong = target_of(server, statements={"bad": {"sql": "DELETE FROM nowhere", "changes": True}})
    with pytest.raises(PermanentError, match="nowhere"):
        await Execute(statement="bad").diff(wrong, acting())


async def test_another_statement_than_the_approved_one_is_refused(server: Postgres) -> None:
    """If the settings changed since the change was shown, nothing is carried out."""
    change = await PUT.diff(target_of(server), acting())
    other = target_of(
        server,
        statements={
            "put-note": {
                "sql": "DELETE FROM notes",
                "changes": True,
                "parameters": [{"name": "id", "type": "integer"}, {"name": "text"}],
            }
        },
    )
    with pytest.raises(PermanentError, match="no longer"):
        await PUT.apply(other, change, acting())


async def test_the_effect_is_what_the_operator_declares(server: Postgres) -> None:
    """Once, and approved by a person, unless the settings say otherwise; a crash leaves it to a person."""
    target = target_of(server)
    assert PUT.effect_on(target) is Effect.ONCE
    assert Execute(statement="drop-notes").effect_on(target) is Effect.IDEMPOTENT
    assert PUT.needs_approval(target)
    calm = target_of(server, statements={"put-note": {"sql": "SELECT 1", "changes": True, "unattended": True}})
    assert not PUT.needs_approval(calm)
    assert await PUT.reconcile(target, await PUT.diff(target, acting()), acting()) is Happened.UNKNOWN


async def test_no_text_gets_past_a_value(server: Postgres) -> None:
    """Every hostile text arrives as exactly that text, or is refused."""
    target = target_of(server, user="quick")
    sent = {}
    for number, payload in enumerate(PAYLOADS[::5]):
        try:
            action = Execute(statement="put-note", parameters={"id": number, "text": payload})
        except ValidationError:
            continue
        if number == 0:
            assert (await action.diff(target, acting())).after["parameters"]["text"] == payload
        given = {"id": number, "text": payload}
        change = Change(summary="", before={}, after={"sql": SQL, "parameters": given, "max_rows": 2})
        await action.apply(target, change, acting())
        sent[str(number)] = hashlib.md5(payload.encode()).hexdigest()
    came = sql(server, "SELECT id, md5(convert_to(text, 'UTF8')) FROM notes")
    assert dict(line.split("|") for line in came.splitlines()) == sent
    assert len(sent) > 60
