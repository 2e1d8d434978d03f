"""The other process of the tests of the store's file: it opens the store, says what it has done, and is killed."""

from __future__ import annotations

import asyncio
import sys

from remediator.clock import SystemClock
from remediator.errors import StoreError
from remediator.ids import SystemIds
from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.kit import arrival, ref, sighting


def say(text: str) -> None:
    """One line to whoever waits for it, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _deliver(store: SqliteStore, number: int) -> None:
    delivery = arrival(sighting(f"q{number}", rules=(ref(f"rule-{number}"),)))
    receipt = await store.intake(delivery)
    say(f"{receipt.delivery_id} {receipt.runs[0]}")


async def _main(path: str, task: str) -> None:
    clock = SystemClock()
    store = SqliteStore(path, clock=clock, ids=SystemIds(clock))
    try:
        await store.open()
    except StoreError as error:
        say(str(error))
        return
    say("open")
    if task == "deliver":
        number = 0
        while True:
            await asyncio.gather(*(_deliver(store, number + each) for each in range(200)))
            number += 200
    await asyncio.Event().wait()


asyncio.run(_main(*sys.argv[1:]))
