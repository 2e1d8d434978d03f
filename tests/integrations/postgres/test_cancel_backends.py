"""Tests of the action postgres.cancel_backends, against a real server; what it shares is tested with terminate."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from pydantic import ValidationError

from remediator.integrations.postgres.cancel_backends import CancelBackends
from tests.integrations.postgres.servers import client, one_postgres, target_of
from tests.integrations.support import acting


def _action(application: str) -> CancelBackends:
    return CancelBackends.model_validate({"application": application, "older_than": "1ms", "max": 5})


async def test_the_query_ends_and_the_connection_stays() -> None:
    """What runs is cancelled, and the client goes on with the same connection."""
    server = one_postgres()
    async with client(server, "runner", statement="SELECT pg_sleep(60)") as connection:
        change = await _action("runner").diff(target_of(server), acting())
        await _action("runner").apply(target_of(server), change, acting())
        for _ in range(100):
            try:
                assert await connection.fetchval("SELECT 1") == 1
                break
            except asyncpg.InterfaceError as error:
                assert "another operation" in str(error)
                await asyncio.sleep(0.01)
        assert (await _action("runner").diff(target_of(server), acting())).empty


async def test_what_waits_in_a_transaction_is_no_query() -> None:
    """Only running queries can be cancelled; what is idle is for terminate_backends, and has no state to choose."""
    server = one_postgres()
    async with client(server, "waiter") as connection:
        await connection.execute("BEGIN")
        assert (await _action("waiter").diff(target_of(server), acting())).empty
    with pytest.raises(ValidationError):
        CancelBackends.model_validate({"application": "a", "older_than": "1ms", "max": 5, "state": "idle"})


async def test_the_next_query_is_not_cancelled() -> None:
    """A connection that runs another query by now keeps it."""
    server = one_postgres()
    async with client(server, "next", statement="SELECT pg_sleep(0.3)") as connection:
        change = await _action("next").diff(target_of(server), acting())
        assert len(change.before["backends"]) == 1
        for _ in range(1000):
            try:
                await connection.execute("SELECT pg_sleep(0.01)")
                break
            except asyncpg.InterfaceError as error:
                assert "another operation" in str(error)
                await asyncio.sleep(0.01)
        outcome = await _action("next").apply(target_of(server), change, acting())
        assert outcome.data["told"] == []
