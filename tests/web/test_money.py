"""Proves that money is shown as the ledger has it, and that signed bytes stay inside."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from remediator.ledger import Books, Caps, Mismatch, Signed, Spend, Transfer
from remediator.store import Licence
from remediator.web import money
from tests.stores.conformance.kit import Bench, CountingIds, StoreClock, ref
from tests.web.site import Site

SPEND = Spend(
    account="treasury", source="Treasury", payee="minting", destination="Wallet", amount=1_500_000_000, fee=10_000,
    balance=10**12, slot=1000, caps=Caps(per_transfer=10**12, per_day=10**12, count_per_day=10, floor=0),
)  # fmt: skip
SIGNED = Signed(signature="sig", raw="c2VjcmV0", lifetime="blockhash", last_valid=1300, slot=1000, fee=5_000, at=1.0)


async def reserved(site: Site, number: int = 0) -> Transfer:
    """A transfer whose money is reserved."""
    store = site.service.store
    bench = Bench(store, StoreClock(), CountingIds())
    bench.clock.at = site.service.clock.now()
    claim = await bench.running(f"q{number}", ref(f"rule-{number}"))
    request = replace(bench.request(claim), spend=replace(SPEND, destination=f"Wallet{number}"))
    assert isinstance(await store.licence(request), Licence)
    found = await store.transfer_of(f"{claim.run.id}-0")
    assert found is not None
    return found


def _conforms(shape: Any, value: Any) -> None:
    TypeAdapter(shape).validate_json(json.dumps(value), strict=True, extra="forbid")


async def test_transfers_are_listed_as_the_ledger_has_them(site: Site) -> None:
    """Newest first, page by page, with exact amounts; ``open`` leaves out what is proven to be over."""
    made = [await reserved(site, number) for number in range(3)]
    live = await site.service.store.save_transfer(made[0].sign(SIGNED), {})
    await site.service.store.save_transfer(live.settle(1100, 2.0), {})
    status, page = await site.get("/api/v1/money/transfers?limit=2")
    assert status == 200
    _conforms(money.TransferList, page)
    assert [item["id"] for item in page["items"]] == [made[2].id, made[1].id]
    status, rest = await site.get(f"/api/v1/money/transfers?cursor={page['next']}")
    (paid,) = rest["items"]
    assert (paid["state"], paid["amount"], paid["lamports"]) == ("settled", "1.5 SOL", 1_500_000_000)
    assert (paid["signature"], paid["slot"], paid["fee"], paid["transaction"]) == ("sig", 1100, 5_000, None)
    assert "c2VjcmV0" not in json.dumps(rest)
    status, page = await site.get("/api/v1/money/transfers?open=true")
    assert {item["id"] for item in page["items"]} == {made[1].id, made[2].id}
    assert (await site.get("/api/v1/money/transfers?opne=true"))[0] == 400
    assert (await site.get("/api/v1/money/transfers/nothing"))[0] == 404


async def test_signed_bytes_stay_inside_and_unsigned_ones_are_shown(site: Site) -> None:
    """Whoever has signed bytes can send them, so nobody gets them; what is to be signed elsewhere is shown whole."""
    signed = await site.service.store.save_transfer((await reserved(site)).sign(SIGNED), {})
    assert (await site.get(f"/api/v1/money/transfers/{signed.id}"))[1]["transaction"] is None
    export = replace(SIGNED, signature="", raw=base64.b64encode(b"message").decode())
    shown = await site.service.store.save_transfer((await reserved(site, 1)).sign(export), {})
    _, found = await site.get(f"/api/v1/money/transfers/{shown.id}")
    assert base64.b64decode(found["transaction"]) == b"\1" + bytes(64) + b"message"


async def test_the_books_are_compared_on_demand(site: Site) -> None:
    """The answer names every difference, and says where none could be looked for."""
    site.service.books = (
        Books("a"),
        Books("b", (Mismatch(kind="foreign", signature="s", message="s took 5 lamports"),)),
        Books("c", error="no endpoint answered"),
    )
    status, page = await site.post("/api/v1/money/reconcile", json={})
    assert status == 200
    _conforms(money.BooksList, page)
    assert [each["matches"] for each in page["items"]] == [True, False, False]
    assert page["items"][1]["mismatches"] == [{"kind": "foreign", "signature": "s", "message": "s took 5 lamports"}]
