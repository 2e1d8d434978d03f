"""Hostile labels against the whole service: whatever they name, nothing is paid, and the audit says why."""

from __future__ import annotations

import time
from pathlib import Path

from solders.pubkey import Pubkey

from remediator.clock import SystemClock
from remediator.ids import SystemIds
from remediator.stores.sqlite import SqliteStore
from tests.crash.scene import firing, scene
from tests.integrations.solana.chain import Cluster, cluster, keypair_json
from tests.integrations.solana.stages import settings, wallet
from tests.money.kill import ENDED, RULE

HOSTILE = (
    str(Pubkey.new_unique()),
    "treasury",
    "spare",
    "Minting",
    "m\u0456nting",
    "minting\u200b",
    "minting ",
    "minting,spare",
    "${{ labels.wallet }}",
    "9" * 400,
    "-1",
    "../minting",
    "minting' OR '1'='1",
)
"""Another key, the treasury, a wallet that exists and is not permitted, look-alikes, numbers and injections."""


async def test_a_label_moves_no_money_but_to_a_permitted_wallet(tmp_path: Path) -> None:
    """Each hostile name is denied with a record; the right one, told by two pods, is paid once; no key leaks."""
    async with cluster(slot_time=0.004) as chain, scene(tmp_path) as it:
        address, spare = wallet(chain), wallet(chain)
        wallets = {"minting": address, "spare": spare}
        treasury = settings(chain, tmp_path, address, kind="solana", wallets=wallets)
        step = {**RULE["steps"][0], "with": {"wallet": "${{ labels.wallet }}", "amount": "1 SOL"}}
        rule = {**RULE, "steps": [step], "when": {"alert": "LowWalletBalance", "group_by": ["wallet"]}}
        it.configure([rule], targets={"treasury": treasury})
        await it.start()
        names = (*HOSTILE, "minting")
        pods = [firing("LowWalletBalance", time.time(), wallet="minting", pod=pod) for pod in ("a", "b")]
        await it.deliver(*(firing("LowWalletBalance", time.time(), wallet=name) for name in HOSTILE), *pods)
        await it.until(lambda run: run["state"] in ENDED, count=len(names))
        runs = {run["incident"]["labels"]["wallet"]: run for run in await it.runs()}
        assert await it.stop() == 0
        assert [len(chain.paid(each)) for each in (address, spare)] == [1, 0]
        assert runs.pop("minting")["state"] == "succeeded"
        assert {run["state"] for run in runs.values()} == {"denied"}
        assert {run["reason"] for run in runs.values()} == {"parameters", "not_permitted"}
        clock = SystemClock()
        store = SqliteStore(str(tmp_path / "remediator.db"), clock=clock, ids=SystemIds(clock))
        await store.open()
        denied = {record.run_id async for record in store.audit_stream() if record.event == "run.denied"}
        assert {run["id"] for run in runs.values()} <= denied
        assert len(await store.transfers()) == 1
        await store.close()
        _no_key_is_left(tmp_path, chain)


def _no_key_is_left(folder: Path, chain: Cluster) -> None:
    """Neither the log, the store, nor anything else that the service wrote holds the treasury's key in any form."""
    pair = chain.treasury
    numbers = keypair_json(pair)
    canaries = [str(pair), numbers[1:80], numbers.replace(" ", "")[1:60], bytes(pair)[:32].hex()]
    written = [path for path in folder.rglob("*") if path.is_file() and path.name != "treasury.json"]
    assert {"service.log", "remediator.db"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert bytes(pair)[:32] not in content, path
        assert not [canary for canary in canaries if canary.encode() in content], path
