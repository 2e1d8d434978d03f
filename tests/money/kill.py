"""One round of SIGKILL: the whole service pays a wallet on a real virtual machine, dies at a named point, and goes on.

``python -m tests.money.kill 200`` plays that many rounds at points and passages of chance and prints the figures.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remediator.clock import SystemClock
from remediator.crashpoint import MONEY
from remediator.ids import SystemIds
from remediator.ledger import Transfer, TransferState
from remediator.stores.sqlite import SqliteStore
from tests.crash.scene import Scene, firing, scene
from tests.integrations.solana.chain import Cluster, cluster
from tests.integrations.solana.stages import SOL, settings, wallet

POINTS = (*MONEY, "store.before_commit", "store.after_commit", "engine.before_licence", "engine.after_licence",
          "engine.after_apply", "engine.after_conclude", "engine.after_diff")  # fmt: skip
"""Every point that a payment passes."""
PLAN = 5 * SOL
RULE: Mapping[str, Any] = {
    "name": "fill-wallet",
    "mode": "auto",
    "when": {"alert": "LowWalletBalance"},
    "max_age": "1h",
    "steps": [
        {
            "id": "pay",
            "uses": "solana.top_up",
            "target": "treasury",
            "with": {"wallet": "minting", "to_balance": "5 SOL"},
            "timeout": "20s",
            "retry": {"attempts": 8, "backoff": "100ms"},
        }
    ],
}
ENDED = ("succeeded", "failed", "denied", "cancelled", "expired", "needs_human")


async def played(directory: Path, case: str) -> tuple[Cluster, str, Scene, list[Transfer], dict[str, Any]]:
    """A round in which the service dies at ``case`` (``point:passage``): everything as it is at its end."""
    async with cluster(slot_time=0.01) as chain, scene(directory) as it:
        address = wallet(chain)
        treasury = settings(chain, directory, address, patience="60s", kind="solana")
        it.configure([dict(RULE)], targets={"treasury": treasury})
        await it.start(case)
        await it.deliver(firing("LowWalletBalance", time.time(), wallet="minting"))
        await it.until(lambda run: run["state"] in ENDED, count=1)
        (run,) = await it.runs()
        await chain.chain.quiet()
        await it.alive()
        assert await it.stop() == 0
        return chain, address, it, await _kept(directory), run


async def _kept(directory: Path) -> list[Transfer]:
    clock = SystemClock()
    store = SqliteStore(str(directory / "remediator.db"), clock=clock, ids=SystemIds(clock))
    await store.open()
    try:
        return list(await store.transfers())
    finally:
        await store.close()


async def round_of(directory: Path, case: str, *, dies: bool = True) -> int:
    """Play and judge a round; how many transfers it took. Raises AssertionError with what is wrong."""
    chain, address, it, kept, run = await played(directory, case)
    told = f"{case}: {run['state']}, {run['reason']}: {run['message']}"
    if dies:
        assert it.deaths == [-signal.SIGKILL], f"{told}; deaths: {it.deaths}"
    assert run["state"] == "succeeded", told
    assert chain.chain.balance(address) == PLAN, told
    (landed,) = chain.paid(address)
    paid = [transfer for transfer in kept if transfer.state is TransferState.SETTLED]
    assert [transfer.signed.signature for transfer in paid if transfer.signed] == [landed.signature], told
    assert not [transfer for transfer in kept if transfer.open], told
    return len(kept)


async def main(rounds: int, at_once: int = 2) -> int:
    """Play rounds, a few at a time."""
    chance, died, transfers = random.Random(7), Counter[str](), 0
    cases = [f"{(point := chance.choice(POINTS))}:{chance.choice((1, 1, 2, 3) if point[0] != 's' else range(1, 14))}"
             for _ in range(rounds)]  # fmt: skip
    gate, wrong = asyncio.Semaphore(at_once), list[str]()

    async def one(case: str) -> None:
        nonlocal transfers
        async with gate:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    transfers += await round_of(Path(folder), case, dies=False)
                    died[case.partition(":")[0]] += 1
                    if died.total() % 10 == 0:
                        print(f"{died.total()} rounds are right", flush=True)
                except AssertionError as error:
                    wrong.append(f"{case}: {error}")
                    print(wrong[-1], flush=True)

    await asyncio.gather(*(one(case) for case in cases))
    print(f"{rounds} rounds, {len(wrong)} wrong, {transfers} transfers; {dict(sorted(died.items()))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]))))
