"""Proves that a person at a terminal sees temporary changes, and puts them back or keeps them with a reason."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli
from tests.web.changes import changed
from tests.web.site import Site


async def test_changes_in_force(ask: Cli, site: Site) -> None:
    """A table of what is in force, one of them in full, and the runs that follow from others by their kind."""
    run, back = await changed(site)
    table = (await ask("change", "list")).out.splitlines()
    assert table[0].split() == ["ID", "CHANGE", "TARGET", "MADE", "DEADLINE"]
    assert back.id in table[1] and "5 workers instead of 2" in table[1]
    assert run.id in (await ask("change", "list", "-o", "wide")).out
    said = await ask("change", "get", back.id)
    for text in (back.id, '{"workers": 2}', '{"workers": 5}', "stayed resolved for 15m", run.id):
        assert text in said.out
    assert json.loads((await ask("change", "get", back.id, "-o", "json")).out)["settle"] == "15m"
    assert (await ask("run", "list", "--kind", "revert", "-o", "name")).out == f"{back.id}\n"
    said = await ask("run", "get", run.id)
    assert "add workers: helped it helped" in said.out and "undoes" in said.out


async def test_a_change_is_put_back_or_kept_with_a_reason(ask: Cli, site: Site) -> None:
    """Without --reason nothing is done; what has been decided is not decided twice."""
    (_, first), (_, second) = await changed(site), await changed(site, 1)
    assert (await ask("change", "keep", first.id)).code == 2
    said = await ask("change", "keep", first.id, "--reason", "we need five")
    assert (said.code, said.out) == (0, f"change {first.id} stays for good: 5 workers instead of 2\n")
    said = await ask("change", "revert", second.id, "--reason", "the sale is over")
    assert (said.code, said.out) == (0, f"change {second.id} goes back now: 5 workers instead of 2\n")
    assert (await site.service.store.run(second.id)).progress["asked"]["comment"] == "the sale is over"
    said = await ask("change", "revert", first.id, "--reason", "too late")
    assert said.code == 1 and "is cancelled" in said.err
