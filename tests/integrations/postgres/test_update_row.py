"""Tests of the action postgres.update_row, against a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres.update_row import UpdateRow
from tests.integrations.corpus import PAYLOADS
from tests.integrations.postgres.servers import ROWS, one_postgres, sql, target_of
from tests.integrations.support import acting
from tests.postgres import Postgres


@pytest.fixture
def server() -> Postgres:
    """The shared server, with one breaker that has been open for an hour and one that just opened."""
    found = one_postgres()
    sql(
        found,
        "TRUNCATE circuit_breaker_state, notes; INSERT INTO circuit_breaker_state VALUES "
        "('mint', 'open', 7, now() - interval '1h', 'ä'), ('fresh', 'open', 1, now() - interval '10s', NULL), "
        "('half', 'half-open', 1, now() - interval '1h', NULL), ('odd', 'melted', 1, now() - interval '1h', NULL), "
        "('never', 'open', 1, NULL, NULL)",
    )
    return found


def _reset(key: str = "mint", **more: Any) -> UpdateRow:
    base = {"row": "breaker", "key": key, "set": {"state": "closed", "failure_count": 0}, "only_if": {"state": "open"}}
    return UpdateRow.model_validate({**base, **more})


def _row(server: Postgres, key: str = "mint") -> str:
    return sql(server, f"SELECT state, failure_count, note FROM circuit_breaker_state WHERE trigger_id = '{key}'")


async def _do(action: UpdateRow, server: Postgres) -> UpdateRow:
    """Act, and return the inverse as it comes back from the store."""
    target = target_of(server)
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    await action.apply(target, change, acting())
    await action.verify(target, change, acting())
    stored = action.inverse(change).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return UpdateRow.model_validate(json.loads(json.dumps(stored)))


async def test_closed_and_back(server: Postgres) -> None:
    """One row changes, and the values of before come back."""
    back = await _do(_reset(), server)
    assert _row(server) == "closed|0|ä"
    assert _row(server, "fresh") == "open|1|"
    await _do(back, server)
    assert _row(server) == "open|7|ä"
    assert (await back.diff(target_of(server), acting())).empty


async def test_t20_a_breaker_gets_the_time_to_half_open_by_itself(server: Postgres) -> None:
    """Trap T20: before a minute is over it is waited, a half-open one is left alone, an unknown age is no."""
    target = target_of(server)
    with pytest.raises(TemporaryError, match="less than 1m ago") as early:
        await _reset("fresh").diff(target, acting())
    assert early.value.reason == "too_early"
    with pytest.raises(PermanentError, match='"half-open"') as half:
        await _reset("half").diff(target, acting())
    assert half.value.reason == "changed"
    with pytest.raises(PermanentError, match="no last_failure_at"):
        await _reset("never").diff(target, acting())


async def test_one_trigger_at_a_time(server: Postgres) -> None:
    """No row and several rows are refused, whatever the key is; two runs on one row are one subject."""
    target = target_of(server)
    with pytest.raises(PermanentError, match="no row") as none:
        await _reset("nobody").diff(target, acting())
    assert none.value.reason == "not_one_row"
    several = UpdateRow.model_validate({"row": "pair", "key": 1, "set": {"value": "c"}})
    with pytest.raises(PermanentError, match="more than one row"):
        await several.diff(target, acting())
    assert _reset().subject() == _reset(set={"state": "open"}).subject() != _reset("fresh").subject()


async def test_a_second_row_that_appears_rolls_everything_back(server: Postgres) -> None:
    """If the key names two rows by the time of the change, neither is touched."""
    sql(server, "DELETE FROM pairs; INSERT INTO pairs VALUES (2, 'a')")
    action = UpdateRow.model_validate({"row": "pair", "key": 2, "set": {"value": "c"}})
    change = await action.diff(target_of(server), acting())
    sql(server, "INSERT INTO pairs VALUES (2, 'a')")
    with pytest.raises(TemporaryError, match="has changed"):
        await action.apply(target_of(server), change, acting())
    assert sql(server, "SELECT count(*) FROM pairs WHERE value = 'a'") == "2"
    sql(server, "DELETE FROM pairs; INSERT INTO pairs VALUES (1, 'a'), (1, 'b')")


async def test_nobody_is_overwritten(server: Postgres) -> None:
    """What changed after the look is left alone, and so is what somebody changed before it is taken back."""
    target = target_of(server)
    change = await _reset().diff(target, acting())
    sql(server, "UPDATE circuit_breaker_state SET failure_count = 8 WHERE trigger_id = 'mint'")
    with pytest.raises(TemporaryError) as conflict:
        await _reset().apply(target, change, acting())
    assert conflict.value.reason == "conflict"
    assert _row(server) == "open|8|ä"
    back = await _do(_reset(), server)
    sql(server, "UPDATE circuit_breaker_state SET failure_count = 1 WHERE trigger_id = 'mint'")
    with pytest.raises(PermanentError) as changed:
        await back.diff(target, acting())
    assert changed.value.reason == "changed"
    with pytest.raises(PermanentError, match="not as it was left"):
        await _reset().verify(target, change, acting())


async def test_a_crash_is_decided_by_looking(server: Postgres) -> None:
    """The values of before, of after, and others."""
    target = target_of(server)
    change = await _reset().diff(target, acting())
    assert await _reset().reconcile(target, change, acting()) is Happened.NO
    await _reset().apply(target, change, acting())
    assert await _reset().reconcile(target, change, acting()) is Happened.YES
    sql(server, "UPDATE circuit_breaker_state SET state = 'open' WHERE trigger_id = 'mint'")
    assert await _reset().reconcile(target, change, acting()) is Happened.UNKNOWN


async def test_only_what_the_settings_list(server: Postgres) -> None:
    """Other rows, columns and values are refused, and a value that could not be put back."""
    target = target_of(server)
    for action, said in (
        (UpdateRow.model_validate({"row": "other", "key": 1, "set": {"x": 1}}), "it has breaker"),
        (_reset(set={"trigger_id": "x"}), "not among"),
        (_reset(set={"state": "exploded"}), "may be open, half-open, closed"),
        (_reset("odd", only_if={}), "could not be put back"),
        (_reset(set={"failure_count": "many"}), "invalid input syntax"),
    ):
        with pytest.raises(PermanentError, match=said):
            await action.diff(target, acting())
    with pytest.raises(ValidationError):
        _reset(set={"state = 'x' --": "x"})
    with pytest.raises(ValidationError):
        _reset(key="")


async def test_settings_that_do_not_fit_the_table(server: Postgres) -> None:
    """A missing table or column is named."""
    wrongs: tuple[dict[str, Any], ...] = ({"table": "nowhere"}, {"columns": {"colour": []}}, {"key": "nokey"})
    for wrong in wrongs:
        target = target_of(server, rows={"breaker": {**ROWS["breaker"], **wrong}})
        only: dict[str, Any] = {"set": {"colour": "x"}, "only_if": {}} if "columns" in wrong else {}
        with pytest.raises(PermanentError):
            await _reset(**only).diff(target, acting())


async def test_more_text_than_could_be_put_back(server: Postgres) -> None:
    """A value that is too long to be kept with the change is not overwritten."""
    sql(server, "UPDATE circuit_breaker_state SET note = repeat('x', 10001) WHERE trigger_id = 'mint'")
    with pytest.raises(PermanentError, match="more text") as caught:
        await _reset(set={"note": "short"}).diff(target_of(server), acting())
    assert caught.value.reason == "no_way_back"


async def test_null_is_a_value(server: Postgres) -> None:
    """NULL can be set, compared and put back."""
    back = await _do(UpdateRow.model_validate({"row": "breaker", "key": "mint", "set": {"note": None}}), server)
    assert _row(server) == "open|7|"
    await _do(back, server)
    assert _row(server) == "open|7|ä"


async def test_no_text_gets_past_a_value_or_a_key(server: Postgres) -> None:
    """Every hostile text arrives as exactly that text in exactly one row, or is refused; as a key it names no row."""
    target = target_of(server, user="quick")
    sql(server, "INSERT INTO notes VALUES (1, 'first'), (2, 'second')")
    arrived = 0
    for number, payload in enumerate(PAYLOADS[::4]):
        try:
            action = UpdateRow.model_validate({"row": "note", "key": 1, "set": {"text": payload}})
        except ValidationError:
            continue
        change = await action.diff(target, acting())
        assert change.after["row"] == {"text": payload}
        if number % 5 == 0:
            await action.apply(target, change, acting())
            assert await action.reconcile(target, change, acting()) is Happened.YES
        arrived += 1
        if number % 5:
            continue
        with pytest.raises((PermanentError, ValidationError)):
            await UpdateRow.model_validate({"row": "breaker", "key": payload, "set": {"note": "x"}}).diff(
                target, acting()
            )
    assert arrived > 60
    assert sql(server, "SELECT count(*) FROM notes") == "2"
    assert sql(server, "SELECT text FROM notes WHERE id = 2") == "second"
