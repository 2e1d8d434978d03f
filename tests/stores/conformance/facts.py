"""What every store must answer when guards ask: past runs and changes, new problems, announcements, what is kept."""

from __future__ import annotations

import asyncio

import pytest

from remediator.errors import NotFound
from remediator.facts import GuardState
from remediator.guard import Limit
from remediator.run import Lock, Run, State
from remediator.store import Refusal
from tests.stores.conformance.kit import T0, Bench, arrival, outcome, ref, sighting
from tests.stores.conformance.retention import DAY


def _storm(bench: Bench, why: str = "many", until: float | None = None) -> GuardState:
    """What a guard asks to be opened."""
    return GuardState("storm", "global", True, bench.clock.at, until, why, "remediator")


class Facts:
    """The verbs that guards ask with, and ``open_guard`` and ``close_guard``."""

    async def test_past_runs_are_those_that_were_licensed(self, bench: Bench) -> None:
        """Runs that acted, with how and when they ended: those that go on first, and never who asks."""
        failed = await bench.acted("a", ref("rule-a", Lock("t1", "", 9)), to=State.FAILED)
        bench.clock.pass_(10)
        good = await bench.acted("b", ref("rule-a", Lock("t2", "", 9)))
        bench.clock.pass_(10)
        going = await bench.licensed(await bench.running("c", ref("rule-a", Lock("t3", "", 9))))
        await bench.running("d", ref("rule-a", Lock("t4", "", 9)))
        await bench.acted("e", ref("rule-e"))
        found = await bench.store.past_runs("rule", ["rule-a"], 0.0, "", 100)
        assert [(run.run_id, run.state, run.licensed_at, run.over_at) for run in found] == [
            (going.run.id, "running", T0 + 20, None),
            (good.id, "succeeded", T0 + 10, T0 + 10),
            (failed.id, "failed", T0, T0),
        ]
        assert [run.run_id for run in await bench.store.past_runs("rule", ["rule-a"], T0, good.id, 100)] == [
            going.run.id
        ]
        assert [run.run_id for run in await bench.store.past_runs("rule", ["rule-a"], 0.0, "", 1)] == [going.run.id]

    @pytest.mark.parametrize(
        ("of", "values", "expected"),
        [
            ("rule", ["rule-a"], "a"),
            ("target", ["t2"], "b"),
            ("target", ["t1", "t2"], "ab"),
            ("service", ["rule-a", "rule-b"], "ab"),
            ("service", [], ""),
            ("global", [], "abc"),
        ],
    )
    async def test_past_runs_of_any_scope(self, bench: Bench, of: str, values: list[str], expected: str) -> None:
        """A rule, targets, the rules of a service or all: each counts what it says, and no service is nobody."""
        names: dict[str, str] = {}
        for letter, target in (("a", "t1"), ("b", "t2"), ("c", "t3")):
            run = await bench.acted(letter, ref(f"rule-{letter}", Lock(target, "", 9)))
            names[run.id] = letter
        found = await bench.store.past_runs(of, values, 0.0, "", 100)
        assert "".join(sorted(names[run.run_id] for run in found)) == expected

    async def test_past_runs_of_a_problem_count_all_its_lives(self, bench: Bench) -> None:
        """A problem that ended and came back is the same problem."""
        rule = ref("rule-a")
        await bench.acted("a", rule)
        bench.clock.pass_(60)
        await bench.ends("a", rule)
        bench.clock.pass_(60)
        claim = await bench.running("a", rule)
        key = claim.incident.key
        assert len(await bench.store.past_runs("incident", [key], 0.0, claim.run.id, 100)) == 1
        assert list(await bench.store.lives(key, 10)) == [T0 + 120, T0]
        assert list(await bench.store.lives(key, 1)) == [T0 + 120]

    async def test_past_runs_tell_what_a_person_found(self, bench: Bench) -> None:
        """A run is in the state it is in now, whenever it ended; its tries are one run."""
        claim = await bench.running("a", ref("rule-a"))
        first = await bench.licensed(claim)
        bench.clock.pass_(5)
        second = await bench.licensed(claim, run=first.run, attempt=2)
        await bench.concluded(second, State.NEEDS_HUMAN)
        (found,) = await bench.store.past_runs("rule", ["rule-a"], 0.0, "", 100)
        assert (found.state, found.licensed_at, found.over_at) == ("needs_human", T0, T0 + 5)

    async def test_past_changes_of_a_target(self, bench: Bench) -> None:
        """What was licensed on a target, newest first; what certainly had no effect is left out."""
        first = await bench.running("a", ref("rule-a", Lock("t", "x", 9)))
        await bench.concluded(await bench.licensed(first, subject="x"))
        bench.clock.pass_(10)
        failed = await bench.licensed(await bench.running("b", ref("rule-b", Lock("t", "y", 9))), subject="y")
        await bench.concluded(failed, State.FAILED, state="failed")
        last = await bench.licensed(await bench.running("c", ref("rule-c", Lock("t", "z", 9))), subject="z")
        await bench.acted("d", ref("rule-d", Lock("other", "", 9)))
        found = await bench.store.past_changes("t", 0.0, "", 10)
        assert [(c.rule, c.subject, c.state, c.licensed_at) for c in found] == [
            ("rule-c", "z", "intent", T0 + 10),
            ("rule-a", "x", "done", T0),
        ]
        assert (dict(found[0].before), dict(found[0].after)) == ({"replicas": 3}, {"replicas": 5})
        assert [c.rule for c in await bench.store.past_changes("t", T0, last.run.id, 10)] == []

    async def test_new_problems_are_counted_by_when_they_were_told(self, bench: Bench) -> None:
        """Runs count from the instant they were opened; two rules for one incident are one problem."""
        await bench.fires("a", ref("rule-a"), ref("rule-b"))
        bench.clock.pass_(10)
        await bench.fires("b", ref("rule-a"))
        found = await bench.store.opened(0.0, 10)
        assert (found[0].at, found[0].rule) == (T0 + 10, "rule-a")
        assert {run.incident_id for run in found[1:]} == {found[2].incident_id} and len(found) == 3
        assert len(await bench.store.opened(T0, 10)) == 1
        assert len(await bench.store.opened(0.0, 2)) == 2
        assert await bench.store.opened_count(0.0, T0 + 10) == 2
        assert await bench.store.opened_count(0.0, T0 + 9) == 1
        assert await bench.store.opened_count(T0, T0 + 10) == 1

    async def test_targets_fire_while_their_incident_is_open(self, bench: Bench) -> None:
        """A target fires from the alert to its end, whatever becomes of the run."""
        rule = ref("rule-a", Lock("t1", "x", 1), Lock("t2", "", 1))
        await bench.fires("a", rule)
        await bench.fires("b", ref("rule-b", Lock("t3", "", 1)))
        assert await bench.store.targets_firing() == {"t1", "t2", "t3"}
        bench.clock.pass_(1)
        await bench.ends("a", rule)
        assert await bench.store.targets_firing() == {"t3"}

    async def test_firing_incidents_are_found_by_text(self, bench: Bench) -> None:
        """Open incidents whose alerts hold every text, newest first and no more than were asked for."""
        await bench.fires("a")
        await bench.fires("b", ref("rule-b"))
        both = await bench.store.firing(['"alertname":"QueueHigh"'], 10)
        assert [list(i.labels.values()) for i in both] == [["QueueHigh", "b"], ["QueueHigh", "a"]]
        assert len(await bench.store.firing(['"alertname":"QueueHigh"'], 1)) == 1
        (one,) = await bench.store.firing(['"alertname":"QueueHigh"', '"queue":"a"'], 10)
        assert one.labels["queue"] == "a"
        assert len(await bench.store.firing([], 10)) == 2
        bench.clock.pass_(1)
        await bench.ends("a")
        assert await bench.store.firing(['"queue":"a"'], 10) == []

    async def test_an_alert_that_no_rule_answers_is_kept_and_seen(self, bench: Bench) -> None:
        """It opens an incident and no run; every notice renews when it was seen, however often it is told."""
        one = sighting("w", start=T0)
        receipt = await bench.store.intake(arrival(one))
        assert (receipt.runs, dict(receipt.notices)) == ((), {"new": 1})
        for _ in range(3):
            bench.clock.pass_(60)
            assert (await bench.store.intake(arrival(one, at=bench.clock.at))).runs == ()
            (found,) = await bench.store.firing(['"queue":"w"'], 10)
            assert found.seen_at == bench.clock.at
        assert list(await bench.store.runs()) == []
        assert await bench.store.targets_firing() == frozenset()
        assert await bench.store.opened_count(0.0, bench.clock.at) == 0

    async def test_an_announced_alert_is_expected_until_the_step_is_over_and_some_time(self, bench: Bench) -> None:
        """From the licence on, while the step goes on, and as long after it as was said, to the second."""
        licence = await bench.licensed(await bench.running("a", ref("rule-a")), announces=["Lag", "Down"], lasts=60.0)
        run = licence.run
        assert [a.run_id for a in await bench.store.announced("Lag", T0, "")] == [run.id]
        assert await bench.store.announced("Lag", T0 - 1, "") == []
        assert await bench.store.announced("Lag", T0, run.id) == []
        assert await bench.store.announced("Other", T0, "") == []
        bench.clock.pass_(500)
        (open_,) = await bench.store.announced("Lag", T0 + 500, "")
        assert (open_.rule, open_.licensed_at, open_.until, open_.depth) == ("rule-a", T0, T0 + 560, 0)
        await bench.concluded(licence)
        bench.clock.pass_(59)
        assert [a.until for a in await bench.store.announced("Down", bench.clock.at, "")] == [T0 + 560]
        assert await bench.store.announced("Down", T0 + 560, "") == []
        assert [a.until for a in await bench.store.announced("Down", T0 + 559, "")] == [T0 + 560]

    async def test_an_effect_that_did_not_happen_causes_nothing(self, bench: Bench) -> None:
        """A licence that certainly had no effect announces nothing any more."""
        licence = await bench.licensed(await bench.running("a", ref("rule-a")), announces=["Lag"], lasts=60.0)
        await bench.concluded(licence, State.FAILED, state="failed")
        assert await bench.store.announced("Lag", T0, "") == []

    async def test_a_chain_of_causes_gets_deeper(self, bench: Bench) -> None:
        """What a run causes that itself answers a caused alert is one deeper."""
        await bench.licensed(await bench.running("a", ref("rule-a")), announces=["Lag"], lasts=600.0)
        bench.clock.pass_(5)
        second = await bench.running("b", ref("rule-b"))
        await bench.licensed(second, announces=["Full", "Full"], lasts=600.0, answers="Lag")
        assert [a.depth for a in await bench.store.announced("Full", bench.clock.at, "")] == [1]
        third = await bench.running("c", ref("rule-c"))
        await bench.licensed(third, announces=["Lag"], lasts=10.0, answers="Full")
        assert sorted(a.depth for a in await bench.store.announced("Lag", bench.clock.at, "")) == [0, 2]
        other = await bench.running("d", ref("rule-d"))
        await bench.licensed(other, announces=["Slow"], lasts=10.0, answers="Other")
        assert [a.depth for a in await bench.store.announced("Slow", bench.clock.at, "")] == [0]

    async def test_what_a_guard_opens_stays_open(self, bench: Bench) -> None:
        """It is opened once with one record, only ever lengthened, and shown to whoever asks."""
        first = await bench.store.open_guard(_storm(bench, "ten new", T0 + 100))
        bench.clock.pass_(5)
        again = await bench.store.open_guard(_storm(bench, "twenty new", T0 + 50))
        assert first == again == GuardState("storm", "global", True, T0, T0 + 100, "ten new", "remediator")
        longer = await bench.store.open_guard(_storm(bench, "x", T0 + 200))
        assert longer == first._replace(until=T0 + 200)
        assert list(await bench.store.guard_states("storm")) == [longer]
        assert list(await bench.store.guard_states("breaker")) == []
        assert (await bench.events()).count("guard.opened") == 1

    async def test_a_person_releases_what_a_guard_holds(self, bench: Bench) -> None:
        """A release is recorded with who and why, wakes the runs that were held by it, and only those."""
        await bench.store.open_guard(_storm(bench))
        held = await bench.moved((await bench.running("a")).run, State.HELD, wake_at=T0 + 999, reason="storm")
        other = await bench.moved(
            (await bench.running("b", ref("rule-b"))).run, State.HELD, wake_at=T0 + 999, reason="flap"
        )
        bench.clock.pass_(7)
        (closed,) = await bench.store.close_guard("storm", "global", "user:ann", "looked")
        assert closed == GuardState("storm", "global", False, T0 + 7, None, "looked", "user:ann")
        assert list(await bench.store.guard_states(open_only=True)) == []
        assert list(await bench.store.guard_states()) == [closed]
        assert (await bench.store.run(held.id)).wake_at == T0 + 7
        assert (await bench.store.run(other.id)).wake_at == T0 + 999
        assert (await bench.events())[-1] == "guard.released"
        with pytest.raises(NotFound):
            await bench.store.close_guard("storm", "global", "user:ann", "again")
        assert (await bench.verified()).ok

    async def test_a_release_names_one_scope_or_all(self, bench: Bench) -> None:
        """One rule's breaker is released without the others; without a scope all of them are."""
        for scope in ("rule:a", "rule:b", "rule:c"):
            await bench.store.open_guard(GuardState("breaker", scope, True, T0, None, "3 failed", "remediator"))
        await bench.store.close_guard("breaker", "rule:a", "user:ann", "")
        with pytest.raises(NotFound):
            await bench.store.close_guard("breaker", "rule:z", "user:ann", "")
        await bench.store.close_guard("breaker", "", "remediator", "a probe shows it")
        assert [state.open for state in await bench.store.guard_states("breaker")] == [False] * 3
        assert (await bench.events())[-2:] == ["guard.closed"] * 2

    async def test_old_news_opens_nothing_again(self, bench: Bench) -> None:
        """Whoever looked before a release cannot undo it; what is seen after it opens anew."""
        before = _storm(bench)
        await bench.store.open_guard(before)
        bench.clock.pass_(10)
        await bench.store.close_guard("storm", "global", "user:ann", "")
        assert not (await bench.store.open_guard(before)).open
        bench.clock.pass_(10)
        assert (await bench.store.open_guard(_storm(bench))).since == T0 + 20

    async def test_many_who_see_a_storm_open_it_once(self, bench: Bench) -> None:
        """Twenty runs that see the same storm at once leave one record of it."""
        answers = await asyncio.gather(*(outcome(bench.store.open_guard(_storm(bench))) for _ in range(20)))
        assert {answer.since for answer in answers if isinstance(answer, GuardState)} == {T0}
        assert (await bench.events()).count("guard.opened") == 1

    async def test_a_limit_of_a_service_counts_its_rules(self, bench: Bench) -> None:
        """Runs of the named rules fill the limit together, on whatever targets, and no other ones."""

        def limit(*rules: str) -> Limit:
            return Limit(
                guard="budget", scope="service", runs=2, window=600, since="end", service="shop", rules=rules
            )

        for name in "abx":
            await bench.acted(name, ref(f"rule-{name}"))
        claim = await bench.running("c", ref("rule-c"))
        refusal = await bench.refused(claim, limits=[limit("rule-a", "rule-b", "rule-c")])
        assert (refusal.kind, refusal.reason, refusal.until) == ("hold", "budget", T0 + 600)
        ahead = await bench.store.within([limit("rule-a", "rule-b")], claim.run, claim.incident.key, ["t"])
        assert isinstance(ahead, Refusal)
        bench.clock.pass_(599)
        assert (await bench.refused(claim, limits=[limit("rule-a", "rule-b")])).until == T0 + 600
        await bench.licensed(claim, limits=[limit("rule-a", "rule-c")])

    async def test_what_guards_have_closed_is_forgotten_after_a_time(self, bench: Bench) -> None:
        """Retention removes what was closed long ago, never what is open; announcements go with their runs."""
        await bench.store.open_guard(_storm(bench))
        await bench.store.open_guard(GuardState("breaker", "rule:a", True, T0, None, "3", "remediator"))
        await bench.store.close_guard("storm", "", "user:ann", "")
        licence = await bench.licensed(await bench.running("a"), announces=["Lag"], lasts=60.0)
        run: Run = await bench.concluded(licence)
        bench.clock.pass_(2 * DAY)
        await bench.store.prune(DAY, 100)
        assert [state.guard for state in await bench.store.guard_states()] == ["breaker"]
        with pytest.raises(NotFound):
            await bench.store.run(run.id)
