"""What every store must count of the runs of a rule."""

from __future__ import annotations

from remediator.run import Lock, Run, State
from tests.stores.conformance.followups import followup
from tests.stores.conformance.kit import T0, Bench, entry, ref


async def seen(bench: Bench, name: str, to: State, reason: str, lasts: float = 0.0) -> Run:
    """A problem ``name`` whose run ends so, without acting, ``lasts`` seconds later; the problem then ends."""
    claim = await bench.running(name, ref("rule-a", Lock(name, "", 1)))
    bench.clock.pass_(lasts)
    after = await bench.moved(claim.run, to, reason=reason)
    await bench.ends(name, ref("rule-a", Lock(name, "", 1)))
    return after


async def acted(bench: Bench, name: str, to: State, reason: str, lasts: float = 0.0) -> None:
    """A problem ``name`` whose run acts and ends so ``lasts`` seconds later."""
    licence = await bench.licensed(await bench.running(name, ref("rule-a", Lock(name, "", 1))))
    bench.clock.pass_(lasts)
    moved = licence.run.move(to, reason, "ended", now=bench.clock.at)
    await bench.store.conclude(moved, licence.effect_id, "done", {}, entry(moved))


class Tallies:
    """The verb ``tally``."""

    async def test_what_became_of_the_runs_of_a_rule(self, bench: Bench) -> None:
        """Each run is counted once, in the figure of its end; other rules are not counted."""
        for number, (to, reason) in enumerate(
            (
                (State.DENIED, "condition"), (State.FAILED, "status_403"), (State.EXPIRED, "max_age"),
                (State.CANCELLED, "resolved"), (State.SUCCEEDED, "verified"),
            )
        ):  # fmt: skip
            await seen(bench, f"s{number}", to, reason)
        for number, (to, reason) in enumerate(
            (
                (State.SUCCEEDED, "verified"), (State.SUCCEEDED, "resolved"), (State.SUCCEEDED, "done"),
                (State.FAILED, "ineffective"), (State.NEEDS_HUMAN, "unknown_outcome"),
            )
        ):  # fmt: skip
            await acted(bench, f"a{number}", to, reason)
        await bench.running("still", ref("rule-a", Lock("still", "", 1)))
        await bench.acted("other", ref("rule-b"))
        counted = await bench.store.tally("rule-a")
        assert counted.matched == 11
        assert (counted.denied, counted.failed, counted.expired, counted.cancelled) == (1, 1, 1, 1)
        assert (counted.fixed, counted.done, counted.ineffective, counted.needs_human) == (2, 1, 1, 1)
        assert (counted.nothing_to_do, counted.live, counted.observed) == (1, 1, 0)
        assert counted.since == T0

    async def test_what_went_away_by_itself(self, bench: Bench) -> None:
        """Observed problems that ended, and how long half of them took at most; open ones are no proof."""
        for number, lasts in enumerate((60.0, 600.0, 120.0)):
            await seen(bench, f"o{number}", State.OBSERVED, "observe", lasts)
        await bench.moved((await bench.running("o9", ref("rule-a", Lock("o9", "", 1)))).run, State.OBSERVED)
        counted = await bench.store.tally("rule-a")
        assert (counted.observed, counted.self_resolved, counted.self_resolved_after) == (4, 3, 120.0)

    async def test_a_problem_that_began_again_did_not_go_away(self, bench: Bench) -> None:
        """Whose end nobody told was cut short by the next life: that proves nothing."""
        lock = ref("rule-a", Lock("x", "", 1))
        await bench.moved((await bench.running("x", lock)).run, State.OBSERVED)
        bench.clock.pass_(3600)
        await bench.fires("x", lock)
        counted = await bench.store.tally("rule-a")
        assert (counted.matched, counted.observed, counted.self_resolved) == (2, 1, 0)
        assert counted.self_resolved_after is None

    async def test_how_long_until_it_was_fixed(self, bench: Bench) -> None:
        """From the beginning of the problem until it was seen to be gone."""
        for number, lasts in enumerate((30.0, 90.0)):
            await acted(bench, f"f{number}", State.SUCCEEDED, "verified", lasts)
        assert (await bench.store.tally("rule-a")).fixed_after == 60.0

    async def test_what_follows_from_a_run_is_no_run_of_its_rule(self, bench: Bench) -> None:
        """A way back is not counted, and a rule that nobody knows has matched nothing."""
        claim = await bench.running("a", ref("rule-a"))
        moved = claim.run.move(State.OBSERVED, "observe", "would have", now=bench.clock.at)
        await bench.store.save(moved, entry(moved), follow=[followup(bench, claim.run)])
        assert (await bench.store.tally("rule-a")).matched == 1
        assert (await bench.store.tally("unheard-of"))[0] == 0
