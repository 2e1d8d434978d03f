"""Proves that what guards hold is shown and released from the command line, with a reason and by name."""

from __future__ import annotations

import pytest

from remediator.facts import GuardState
from tests.cli.conftest import Cli
from tests.web.site import Site


async def _open(site: Site, guard: str, scope: str) -> None:
    now = site.service.clock.now()
    await site.service.store.open_guard(GuardState(guard, scope, True, now, None, "3 runs failed", "remediator"))


async def test_a_breaker_is_listed_and_released(ask: Cli, site: Site) -> None:
    """What is open says since when and why; a release names the rule, and what is left is printed."""
    assert (await ask("guard", "list")).out == "no guard holds anything\n"
    for scope in ("rule:watch-only", "target:minting-api"):
        await _open(site, "breaker", scope)
    told = (await ask("guard", "list")).out.splitlines()
    assert [line.split(": ")[0] for line in told] == ["breaker rule:watch-only", "breaker target:minting-api"]
    assert told[0].endswith("3 runs failed")
    left = await ask("guard", "release", "breaker", "--rule", "watch-only", "--reason", "disk replaced")
    assert left.out.startswith("breaker target:minting-api")
    assert (await ask("guard", "release", "breaker", "--reason", "x")).out == "no guard holds anything\n"
    assert (await site.events())[-1] == "guard.released"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("release", "breaker"), 2),
        (("release", "cooldown", "--reason", "x"), 2),
        (("release", "storm", "--reason", "x"), 1),
        (("release", "breaker", "--rule", "other", "--reason", "x"), 1),
        (("release", "breaker", "--reason", ""), 1),
        (("release", "breaker", "--rule", "a", "--target", "b", "--reason", "x"), 2),
    ],
)
async def test_a_mistake_releases_nothing(ask: Cli, site: Site, arguments: tuple[str, ...], code: int) -> None:
    """No reason, another guard, nothing that is open under that name: an error, and what was open is open."""
    await _open(site, "breaker", "rule:watch-only")
    said = await ask("guard", *arguments)
    assert (said.code, bool(said.err)) == (code, True)
    assert len(await site.service.store.guard_states(open_only=True)) == 1
