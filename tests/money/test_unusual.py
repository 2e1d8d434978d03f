"""Unusual spending turns auto into approve: what is usual is paid, what is not waits for a person."""

from __future__ import annotations

import time
from pathlib import Path

from remediator.clock import SystemClock
from remediator.ids import SystemIds
from remediator.stores.sqlite import SqliteStore
from tests.crash.scene import firing, scene
from tests.integrations.solana.chain import cluster
from tests.integrations.solana.stages import SOL, settings, wallet
from tests.money.kill import ENDED, RULE


async def test_only_what_is_unusual_asks_a_person(tmp_path: Path) -> None:
    """A wallet that is a little low is filled at once; one that is nearly empty is filled after a person's yes."""
    async with cluster(slot_time=0.004) as chain, scene(tmp_path) as it:
        low, empty = wallet(chain, SOL), wallet(chain, SOL // 10)
        wallets = {"low": low, "empty": empty}
        permit = {"actions": ["solana.*"], "wallets": ["low", "empty"]}
        treasury = settings(chain, tmp_path, low, kind="solana", wallets=wallets, permit=permit)
        step = {**RULE["steps"][0], "with": {"wallet": "${{ labels.wallet }}", "amount": "1 SOL"}}
        probe = {"id": "wallet", "uses": "solana.balance", "target": "treasury"}
        rule = {
            **RULE,
            "when": {"alert": "LowWalletBalance", "group_by": ["wallet"]},
            "probes": [{**probe, "with": {"wallet": "${{ labels.wallet }}"}}],
            "guards": [{"approval": {"unless": "probes.wallet.sol > 0.5"}}],
            "steps": [step],
        }
        it.configure([rule], targets={"treasury": treasury})
        await it.start()
        await it.deliver(*(firing("LowWalletBalance", time.time(), wallet=name) for name in wallets))
        await it.until(lambda run: run["state"] in ENDED, count=2)
        runs = {run["incident"]["labels"]["wallet"]: run for run in await it.runs()}
        assert {run["state"] for run in runs.values()} == {"succeeded"}, runs
        assert await it.stop() == 0
        assert [chain.chain.balance(each) for each in (low, empty)] == [2 * SOL, SOL + SOL // 10]
        clock = SystemClock()
        store = SqliteStore(str(tmp_path / "remediator.db"), clock=clock, ids=SystemIds(clock))
        await store.open()
        asked = {record.run_id async for record in store.audit_stream() if record.event == "approval.requested"}
        assert asked == {runs["empty"]["id"]}
        await store.close()
