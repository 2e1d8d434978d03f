"""Proves that money that no run looks after is settled, and that books that differ stop the treasury at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from remediator.clock import Clock, SystemClock
from remediator.errors import TemporaryError
from remediator.ids import SystemIds
from remediator.ledger import Ledger, Mismatch, TransferState
from remediator.metrics import Metrics
from remediator.stores.sqlite import SqliteStore
from remediator.target import Target
from remediator.treasurer import Treasurer
from tests.integrations.solana.test_top_up import till


class Vault(Target):
    """A treasury whose books are as the test says."""

    async def mismatches(self, ledger: Ledger, clock: Clock) -> Sequence[Mismatch]:
        if self.name == "silent":
            raise TemporaryError("no endpoint answered")
        return [Mismatch(kind="foreign", signature="s", message="s took 5 lamports")] if self.name == "robbed" else []


class Plain(Target):
    """A target without money."""


async def test_books_that_differ_stop_the_treasury() -> None:
    """A mismatch pauses its target, once, with a record and a figure; silence and other targets stop nothing."""
    clock = SystemClock()
    store = SqliteStore(":memory:", clock=clock, ids=SystemIds(clock))
    await store.open()
    targets = {name: Vault(name=name) for name in ("robbed", "silent", "sound")}
    metrics = Metrics()
    it = Treasurer(store, lambda: {**targets, "plain": Plain(name="plain")}, clock=clock, metrics=metrics)
    assert it.treasuries() == ["robbed", "silent", "sound"]
    for _ in range(2):
        books = await it.compare(it.treasuries())
        assert [each.match for each in books] == [False, False, True]
    (pause,) = await store.pauses()
    assert (pause.scope, pause.until, pause.actor) == ("target:robbed", None, "remediator")
    assert " between chain and ledger: " in pause.reason and pause.reason.startswith("1 payment differs")
    events = [record.event async for record in store.audit_stream()]
    assert events == ["money.mismatch", "pause.engaged"]
    value = metrics.registry.get_sample_value
    assert value("remediator_money_mismatches", {"target": "robbed"}) == 1
    assert value("remediator_money_mismatches", {"target": "sound"}) == 0
    assert value("remediator_money_mismatches", {"target": "silent"}) is None
    await store.close()


async def test_what_no_run_looks_after_is_settled(tmp_path: Path) -> None:
    """A transfer whose owner died for good is closed by proof, and nothing is sent for it."""
    async with till(tmp_path) as it:
        await it.dies(lambda: bool(it.it.chain.arrived))
        clock = _Later()
        store = SqliteStore(":memory:", clock=SystemClock(), ids=SystemIds(SystemClock()))
        await store.open()
        targets = {"treasury": it.target}
        treasurer = Treasurer(store, lambda: targets, clock=clock, metrics=Metrics())
        treasurer._store = it.ledger  # type: ignore[assignment]  # the ledger is all that settling needs of a store
        for _ in range(100):
            await treasurer.settle()
            if not it.one.open:
                break
            await asyncio.sleep(0.02)
        assert it.one.state is TransferState.SETTLED
        sent = len(it.it.chain.arrived)
        await treasurer.settle()
        assert len(it.it.chain.arrived) == sent
        await store.close()


class _Later(SystemClock):
    """The host's clock, a minute later: long enough for a run to have been dead."""

    def now(self) -> float:
        return super().now() + 60.0
