"""Proves that a person sees the ledger as it is, what there is to sign, and whether the books match."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from remediator.ledger import Books, Mismatch
from tests.cli.conftest import Cli
from tests.web.site import Site
from tests.web.test_money import SIGNED, reserved


async def test_transfers_are_listed_and_shown(ask: Cli, site: Site) -> None:
    """The table has state, amount and wallet; one transfer has everything, and what there is to sign."""
    first = await reserved(site)
    export = replace(SIGNED, signature="", raw=base64.b64encode(b"message").decode())
    await site.service.store.save_transfer(first.sign(export), {})
    table = (await ask("money", "list")).out.splitlines()
    assert table[1].split()[:6] == [first.id, "live", "1.5", "SOL", "minting", "treasury"]
    assert (await ask("money", "list", "--open", "-o", "name")).out == f"{first.id}\n"
    said = await ask("money", "show", first.id)
    assert "Wallet0" in said.out
    assert said.out.splitlines()[-1] == base64.b64encode(b"\1" + bytes(64) + b"message").decode()
    assert json.loads((await ask("money", "show", first.id, "-o", "json")).out)["lamports"] == 1_500_000_000
    assert (await ask("money", "show", "nothing")).code == 1


async def test_books_that_differ_are_no_success(ask: Cli, site: Site) -> None:
    """Exit status 0 only if every treasury was compared and matches."""
    assert (await ask("money", "reconcile")).out == "no target holds a treasury\n"
    site.service.books = (Books("treasury"),)
    said = await ask("money", "reconcile")
    assert (said.code, said.out) == (0, "treasury: matches\n")
    site.service.books = (
        Books("treasury", (Mismatch(kind="foreign", signature="s", message="s took 5 lamports"),)),
        Books("other", error="no endpoint answered"),
    )
    said = await ask("money", "reconcile")
    assert said.code == 1
    assert "treasury: 1 differ; paused\n  foreign: s took 5 lamports\nother: no endpoint answered" in said.out
    assert json.loads((await ask("money", "reconcile", "-o", "json")).out)[1]["matches"] is False
