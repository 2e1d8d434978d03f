"""Tests of the probe postgres.query, against a real server."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres.query import Query
from remediator.redact import redact
from tests.integrations.corpus import PAYLOADS
from tests.integrations.postgres.servers import STATEMENTS, one_postgres, sql, target_of
from tests.integrations.support import looking


async def _rows(statement: str, **parameters: Any) -> Any:
    return await Query(statement=statement, parameters=parameters).read(target_of(one_postgres()), looking())


async def test_rows_of_a_named_statement() -> None:
    """A value of the rule is bound, a default fills in, and the first row can be named directly."""
    server = one_postgres()
    sql(server, "TRUNCATE processed_events; INSERT INTO processed_events (processed_at) VALUES (now() - interval '3m')")
    evidence = await _rows("recent-events")
    assert (evidence["rows"], evidence["first"], evidence["truncated"]) == ([{"events": 1}], {"events": 1}, False)
    assert (await _rows("recent-events", minutes=1))["first"] == {"events": 0}


async def test_rows_are_bounded() -> None:
    """No more than max_rows are kept, and it says so; no row has no first."""
    evidence = await _rows("many", n=1_000_000)
    assert [row["n"] for row in evidence["rows"]] == [1, 2, 3]
    assert evidence["truncated"] is True
    assert "first" not in await _rows("many", n=0)


async def test_time_is_bounded() -> None:
    """A statement that takes too long is ended, here and on the server."""
    began = time.monotonic()
    with pytest.raises(TemporaryError):
        await _rows("slow")
    assert time.monotonic() - began < 2.3
    left = ""
    for _ in range(50):
        left = sql(
            one_postgres(),
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' "
            "AND pid <> pg_backend_pid()",
        )
        if left == "0":
            break
        time.sleep(0.05)
    assert left == "0"


async def test_nothing_can_be_changed() -> None:
    """A statement that would change something is refused by the server, and one for execute by its name."""
    server = one_postgres()
    sql(server, "DELETE FROM notes; INSERT INTO notes VALUES (1, 'x')")
    with pytest.raises(PermanentError, match="read-only"):
        await _rows("sneaky")
    with pytest.raises(PermanentError, match="no query"):
        await _rows("drop-notes")
    assert sql(server, "SELECT count(*) FROM notes") == "1"


async def test_t18_cards_are_hidden_and_redacted() -> None:
    """Trap T18: a card number never comes out of the evidence, and a column that is hidden never at all."""
    evidence = await _rows("cards")
    assert evidence["rows"][0] == {"card_number": "[redacted]", "cvv": "[hidden]", "expiry_date": "12/29"}
    assert "737" not in json.dumps(redact(dict(evidence)))


@pytest.mark.parametrize(
    ("statement", "parameters", "said"),
    [
        ("recent-events", {"minutes": 0}, "at least 1"),
        ("recent-events", {"minutes": 1441}, "at most 1440"),
        ("recent-events", {"minutes": "5"}, "whole number"),
        ("recent-events", {"minutes": True}, "whole number"),
        ("recent-events", {"other": 1}, "no parameter"),
        ("many", {}, "is missing"),
        ("many", {"n": 2**63}, "64 bits"),
        ("many", {"n": 2**31}, "out of"),
        ("echo", {"text": 1}, "must be text"),
        ("nothing", {}, "it has"),
    ],
)
async def test_values_that_do_not_fit_are_refused(statement: str, parameters: dict[str, Any], said: str) -> None:
    """The parameter is named with what it accepts."""
    with pytest.raises(PermanentError, match=said):
        await _rows(statement, **parameters)


async def test_every_type_becomes_json() -> None:
    """Numbers stay numbers, times are RFC 3339, and what JSON has not is null or text."""
    text = (
        "SELECT 1::int8 AS i, 1.5::float8 AS f, 'NaN'::float8 AS nan, 12.50::numeric AS n, 3::numeric AS whole, "
        "true AS b, NULL AS nothing, '2026-01-02T03:04:05+01'::timestamptz AS at, '2026-01-02'::date AS d, "
        "interval '90s' AS span, '\\x00ff'::bytea AS raw, ARRAY[1,2] AS list, '{\"a\": 1}'::jsonb AS j, "
        "'550e8400-e29b-41d4-a716-446655440000'::uuid AS u, '10.0.0.1'::inet AS net"
    )
    target = target_of(one_postgres(), statements={"types": {"sql": text}})
    row = (await Query(statement="types").read(target, looking()))["first"]
    assert row == {
        "i": 1, "f": 1.5, "nan": None, "n": 12.5, "whole": 3, "b": True, "nothing": None,
        "at": "2026-01-02T02:04:05.000000Z", "d": "2026-01-02", "span": 90.0, "raw": "\\x00ff", "list": [1, 2],
        "j": '{"a": 1}', "u": "550e8400-e29b-41d4-a716-446655440000", "net": "10.0.0.1",
    }  # fmt: skip


async def test_a_statement_that_is_wrong_says_where() -> None:
    """The server's own words come through; nothing is tried again."""
    target = target_of(one_postgres(), statements={"wrong": {"sql": "SELEC 1"}, "two": {"sql": "SELECT 1; SELECT 2"}})
    for name in ("wrong", "two"):
        with pytest.raises(PermanentError) as caught:
            await Query(statement=name).read(target, looking())
        assert caught.value.reason == "refused"


async def test_no_text_gets_past_a_parameter() -> None:
    """Every hostile text comes back as exactly that text, or is refused; it is never a part of the statement."""
    target = target_of(
        one_postgres(),
        statements={
            "echo": {**STATEMENTS["echo"], "sql": "SELECT encode(convert_to($1::text, 'UTF8'), 'hex') AS said"}
        },
    )
    came = 0
    for payload in PAYLOADS:
        try:
            probe = Query(statement="echo", parameters={"text": payload})
        except ValidationError:
            continue
        said = (await probe.read(target, looking()))["first"]["said"]
        assert said.rstrip("…") == payload.encode().hex()[:4096]
        came += 1
    assert came > 250
    for payload in PAYLOADS:
        with pytest.raises((ValidationError, PermanentError)):
            await Query(statement=f"x{payload}" if payload else "").read(target, looking())
