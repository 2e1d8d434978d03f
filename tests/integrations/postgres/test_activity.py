"""Tests of the probe postgres.activity, against a real server."""

from __future__ import annotations

import json

from remediator.integrations.postgres.activity import Activity
from tests.integrations.postgres.servers import client, one_postgres, target_of
from tests.integrations.support import looking


async def test_who_is_connected_and_for_how_long() -> None:
    """Counts by state and application, and what has run longest; Remediator itself is not counted."""
    server = one_postgres()
    async with (
        client(server, "worker-a", statement="SELECT pg_sleep(60), 'secret-looking'"),
        client(server, "worker-b") as idle,
        client(server, "other"),
    ):
        await idle.execute("BEGIN")
        evidence = await Activity(application="worker-*").read(target_of(server), looking())
        everybody = await Activity().read(target_of(server), looking())
    assert evidence["total"] == 2
    assert evidence["by_state"] == {"active": 1, "idle in transaction": 1}
    assert evidence["by_application"] == {"worker-a": 1, "worker-b": 1}
    assert (evidence["active"], evidence["idle_in_transaction"]) == (1, 1)
    assert 0 < evidence["longest_query_seconds"] < 30
    assert evidence["longest_transaction_seconds"] >= evidence["longest_query_seconds"]
    assert [query["application"] for query in evidence["queries"]] == ["worker-a"]
    assert "query" not in evidence["queries"][0]
    assert everybody["by_application"]["other"] == 1
    assert "remediator" not in everybody["by_application"]
    json.dumps(everybody, allow_nan=False)


async def test_t18_texts_of_queries_hold_no_card_numbers() -> None:
    """Trap T18: a card number in a query is taken out before the text is cut, also where the cut would halve it."""
    server = one_postgres()
    padding = "x" * 270
    statement = f"SELECT pg_sleep(60), '{padding} 4111 1111 1111 1111'"
    async with client(server, "cards", statement=statement):
        evidence = await Activity(application="cards", texts=True).read(target_of(server), looking())
    (query,) = evidence["queries"]
    assert "4111" not in query["query"]
    assert query["query"].startswith("SELECT pg_sleep(60)")


async def test_an_application_is_no_pattern_of_sql() -> None:
    """Only * stands for any text; what LIKE would understand is plain text."""
    server = one_postgres()
    async with client(server, "a_b%"), client(server, "axby"):
        evidence = await Activity(application="a_b%").read(target_of(server), looking())
        assert evidence["by_application"] == {"a_b%": 1}
        assert (await Activity(application="%").read(target_of(server), looking()))["total"] == 0
