"""What every store must do at the licence: every reason to refuse, limits exact to the second, and single use."""

from __future__ import annotations

import asyncio
import random

import pytest

from remediator.errors import Lost, NotFound
from remediator.guard import Limit, Scope
from remediator.run import Lock, State
from remediator.store import Licence, Pause, Refusal
from tests.stores.conformance.kit import CHANGE, T0, Bench, entry, outcome, ref

TWICE_AN_HOUR = Limit(guard="rate_limit", scope="rule", runs=2, window=3600)
COOLDOWN = Limit(guard="cooldown", scope="rule", runs=1, window=600, since="end")


def _rule(number: int, rule: str = "rule-a") -> tuple[str, Lock]:
    """The same rule on a target of its own, so that runs of one rule need not wait for each other's lock."""
    return rule, Lock(f"t{number}", "", 1)


class Licences:
    """The verbs ``licence``, ``within``, ``conclude`` and ``late``."""

    async def test_a_licence_is_written_with_its_intent(self, bench: Bench) -> None:
        """The permission, the run's state and the audit's intent are there together, before anything is done."""
        claim = await bench.running()
        bench.clock.pass_(3)
        licence = await bench.licensed(claim, subject="deployment/shop/web")
        (effect,) = await bench.store.effects(claim.run.id)
        assert licence.effect_id == effect.id
        assert (effect.run_id, effect.step, effect.attempt, effect.epoch) == (claim.run.id, 0, 1, 1)
        assert (effect.state, effect.licensed_at, effect.finished_at) == ("intent", T0 + 3, None)
        assert (effect.action, effect.effect) == ("kubernetes.scale", "idempotent")
        assert (effect.target, effect.subject) == (claim.run.locks[0].target, "deployment/shop/web")
        assert (dict(effect.change), dict(effect.outcome)) == (CHANGE.as_json(), {})
        assert licence.run == await bench.store.run(claim.run.id)
        assert (licence.run.reason, licence.run.version) == ("acting", claim.run.version + 1)
        assert (await bench.events(claim.run.id))[-1] == "effect.intent"

    async def test_an_outcome_is_written_with_the_next_state(self, bench: Bench) -> None:
        """What came of an effect and what the run does next are one commit."""
        licence = await bench.licensed(await bench.running())
        bench.clock.pass_(7)
        run = await bench.concluded(licence, State.VERIFYING)
        (effect,) = await bench.store.effects(run.id)
        assert (effect.state, effect.finished_at, dict(effect.outcome)) == ("done", T0 + 7, {"summary": "5 replicas"})
        assert (await bench.store.run(run.id)).state is State.VERIFYING
        assert (await bench.events(run.id))[-2:] == ["effect.intent", "run.verifying"]

    async def test_a_licence_is_used_once(self, bench: Bench) -> None:
        """The same run, step and attempt never gets a second permission; the next attempt and step may."""
        first = await bench.licensed(claim := await bench.running())
        before = await bench.look(claim.run.id)
        with pytest.raises(Lost):
            await bench.store.licence(bench.request(claim, run=first.run))
        assert await bench.look(claim.run.id) == before
        again = await bench.licensed(claim, run=first.run, attempt=2)
        await bench.licensed(claim, run=again.run, step=1)
        assert [(e.step, e.attempt) for e in await bench.store.effects(claim.run.id)] == [(0, 1), (0, 2), (1, 1)]

    async def test_an_outcome_needs_its_licence(self, bench: Bench) -> None:
        """An outcome for a licence that this run never had moves nothing and records nothing."""
        claim, other = await bench.running("a"), await bench.licensed(await bench.running("b", ref("rule-b")))
        before = await bench.look(claim.run.id, other.run.id)
        for effect_id in ("nothing", other.effect_id):
            moved = claim.run.move(State.SUCCEEDED, "done", "done", now=T0)
            with pytest.raises(NotFound):
                await bench.store.conclude(moved, effect_id, "done", {}, entry(moved))
        assert await bench.look(claim.run.id, other.run.id) == before

    async def test_late_evidence_is_recorded_and_moves_nothing(self, bench: Bench) -> None:
        """What an owner that lost its run still has to say is kept for people and never advances the run."""
        licence = await bench.licensed(await bench.running())
        before = await bench.look(licence.run.id)
        await bench.store.late(licence.effect_id, "done", {"summary": "late"}, entry(licence.run, "effect.late"))
        after = await bench.look(licence.run.id)
        assert (after.runs, after.effects) == (before.runs, before.effects)
        assert [record.event for record in after.audit[len(before.audit) :]] == ["effect.late"]
        with pytest.raises(NotFound):
            await bench.store.late("nothing", "done", {}, entry(licence.run, "effect.late"))
        assert len(await bench.records()) == len(after.audit)

    # reasons to refuse -----------------------------------------------------------------------------------------------

    async def test_a_resolved_alert_is_not_acted_on(self, bench: Bench) -> None:
        """The end of the alert, a moment before the effect, takes the permission away."""
        claim = await bench.running()
        bench.clock.pass_(1)
        await bench.ends()
        before = await bench.look(claim.run.id)
        refusal = await bench.refused(claim)
        assert (refusal.kind, refusal.reason) == ("cancel", "resolved")
        assert await bench.look(claim.run.id) == before

    @pytest.mark.parametrize(
        ("scope", "refuses"),
        [
            ("global", True),
            ("rule:rule-a", True),
            ("target:prod", True),
            ("target:second", True),
            ("rule:rule-b", False),
            ("rule:rule", False),
            ("target:stage", False),
        ],
    )
    async def test_a_pause_stops_what_it_names(self, bench: Bench, scope: str, refuses: bool) -> None:
        """After a pause is engaged no licence is given for everything, the rule or the target that it names."""
        rule = ref("rule-a", Lock("prod", "", 1), Lock("second", "", 1))
        claim = await bench.running("a", rule)
        await bench.store.pause(Pause(scope, "frozen", "user:ann", T0, None))
        before = await bench.look(claim.run.id)
        answer = await bench.store.licence(bench.request(claim))
        if not refuses:
            assert isinstance(answer, Licence)
            return
        assert isinstance(answer, Refusal)
        assert (answer.kind, answer.reason, answer.until) == ("hold", "paused", None)
        assert "frozen" in answer.message and "ann" in answer.message
        assert await bench.look(claim.run.id) == before

    async def test_a_pause_ends_at_its_second(self, bench: Bench) -> None:
        """A pause until a time refuses up to that second, says when it ends, and is then over by itself."""
        claim = await bench.running()
        await bench.store.pause(Pause("global", "maintenance", "user:ann", T0, T0 + 20))
        bench.clock.pass_(19)
        assert (await bench.refused(claim)).until == T0 + 20
        bench.clock.pass_(1)
        await bench.licensed(claim)

    async def test_a_change_needs_its_approval(self, bench: Bench) -> None:
        """Without a question, with an open one, and until enough people said yes, there is no licence."""
        claim = await bench.running()
        assert (await bench.refused(claim, approval=CHANGE.digest)).reason == "approval"
        await bench.asked(claim, needed=2)
        await bench.store.vote(claim.run.id, "what was shown", "user:ann", True, "")
        held = await bench.store.run(claim.run.id)
        answer = await bench.store.licence(
            bench.request(claim, run=held.move(State.RUNNING, "x", "x", now=T0), approval=CHANGE.digest)
        )
        assert isinstance(answer, Refusal) and answer.reason == "approval"

    @pytest.mark.parametrize(
        ("step", "digest", "wait", "allowed"),
        [
            (0, CHANGE.digest, 0.0, True),
            (0, CHANGE.digest, 899.0, True),
            (0, CHANGE.digest, 900.0, False),
            (0, "the digest of another change", 0.0, False),
            (1, CHANGE.digest, 0.0, False),
        ],
    )
    async def test_an_approval_is_for_one_change_and_a_time(
        self, bench: Bench, step: int, digest: str, wait: float, allowed: bool
    ) -> None:
        """What was granted is exactly one change of one step, and only until the second it expires."""
        await bench.asked(await bench.running())
        run = await bench.store.vote((await bench.store.run("@latest")).id, "what was shown", "user:ann", True, "")
        claim = await bench.claim_one("w2", lease=9_999)
        assert claim.run.id == run.id
        bench.clock.pass_(wait)
        before = await bench.look(run.id)
        answer = await bench.store.licence(bench.request(claim, step=step, approval=digest))
        if allowed:
            assert isinstance(answer, Licence)
        else:
            assert isinstance(answer, Refusal)
            assert (answer.kind, answer.reason) == ("hold", "approval")
            assert await bench.look(run.id) == before

    async def test_a_newer_question_takes_the_old_answer_away(self, bench: Bench) -> None:
        """Once people are asked about something else, the yes to the old question permits nothing."""
        await bench.asked(await bench.running())
        await bench.store.vote((await bench.store.run("@latest")).id, "what was shown", "user:ann", True, "")
        await bench.asked(await bench.claim_one(), digest="something else")
        bench.clock.pass_(900)
        assert (await bench.refused(await bench.claim_one(), approval=CHANGE.digest)).reason == "approval"

    # limits ----------------------------------------------------------------------------------------------------------

    async def test_a_rate_limit_is_exact_to_the_second(self, bench: Bench) -> None:
        """Two an hour: the third is refused until the first is an hour old to the second, and says so."""
        await bench.acted("a", ref(*_rule(1)))
        bench.clock.pass_(600)
        await bench.acted("b", ref(*_rule(2)))
        bench.clock.pass_(600)
        claim = await bench.running("c", ref(*_rule(3)))
        refusal = await bench.refused(claim, limits=[TWICE_AN_HOUR])
        assert (refusal.kind, refusal.reason, refusal.until) == ("hold", "rate_limit", T0 + 3600)
        bench.clock.pass_(2399)
        assert (await bench.refused(claim, limits=[TWICE_AN_HOUR])).until == T0 + 3600
        bench.clock.pass_(1)
        await bench.licensed(claim, limits=[TWICE_AN_HOUR])

    async def test_a_rate_limit_counts_from_the_licence(self, bench: Bench) -> None:
        """However long a run goes on after it acted, the hour begins with its permission, and ends to the second."""
        going_on = [await bench.licensed(await bench.running(f"q{n}", ref(*_rule(n)), lease=9_999)) for n in (1, 2)]
        bench.clock.pass_(500)
        for licence in going_on:
            await bench.concluded(licence)
        bench.clock.pass_(3_099)
        claim = await bench.running("c", ref(*_rule(3)))
        assert (await bench.refused(claim, limits=[TWICE_AN_HOUR])).until == T0 + 3600
        bench.clock.pass_(1)
        await bench.licensed(claim, limits=[TWICE_AN_HOUR])

    async def test_every_window_counts(self, bench: Bench) -> None:
        """Several limits hold at once, and the one that refuses says until when."""
        limits = [
            Limit(guard="rate_limit", scope="rule", runs=2, window=60),
            Limit(guard="rate_limit", scope="rule", runs=3, window=3600),
        ]
        granted = []
        for number in range(200):
            claim = await bench.running(f"q{number}", ref(*_rule(number)))
            answer = await bench.store.licence(bench.request(claim, limits=limits))
            if isinstance(answer, Licence):
                granted.append(bench.clock.at - T0)
                await bench.concluded(answer)
            else:
                await bench.moved(claim.run, State.CANCELLED)
            bench.clock.pass_(20)
        assert granted == [0, 20, 60, 3600, 3620, 3660]

    async def test_limits_agree_with_a_model(self, bench: Bench) -> None:
        """Over a long random history the store refuses exactly when a list of times says so."""
        dice, licensed, refused = random.Random(7), list[float](), 0
        limit = Limit(guard="rate_limit", scope="rule", runs=4, window=100)
        for number in range(300):
            claim = await bench.running(f"q{number}", ref(*_rule(number)))
            inside = sorted(at for at in licensed if at > bench.clock.at - 100)
            answer = await bench.store.licence(bench.request(claim, limits=[limit]))
            assert isinstance(answer, Refusal) == (len(inside) >= 4)
            if isinstance(answer, Refusal):
                refused += 1
                assert answer.until == inside[-4] + 100
            else:
                licensed.append(bench.clock.at)
            await bench.moved(
                answer.run if isinstance(answer, Licence) else claim.run,
                dice.choice((State.SUCCEEDED, State.FAILED, State.NEEDS_HUMAN)),
            )
            bench.clock.pass_(dice.choice((0, 1, 5, 25, 60)))
        assert refused > 20 and len(licensed) > 20

    @pytest.mark.parametrize(
        ("scope", "counts"), [("rule", "ab"), ("incident", "ac"), ("target", "ad"), ("global", "abcde")]
    )
    async def test_a_scope_counts_what_it_says(self, bench: Bench, scope: Scope, counts: str) -> None:
        """A limit counts runs of the same rule, of the same problem, on the same target, or all of them."""
        for letter, name, rule, target in (
            ("a", "same", "rule-a", "prod"),
            ("b", "x", "rule-a", "stage"),
            ("c", "same", "rule-c", "stage"),
            ("d", "y", "rule-d", "prod"),
            ("e", "z", "rule-e", "stage"),
        ):
            if letter in counts:
                await bench.acted(name, ref(rule, Lock(target, letter, 9)))
                if name == "same":
                    bench.clock.pass_(5)
                    await bench.ends("same", ref(rule, Lock(target, letter, 9)))
                    bench.clock.pass_(5)
        claim = await bench.running("same", ref("rule-a", Lock("prod", "now", 9)))
        exact = Limit(guard="rate_limit", scope=scope, runs=len(counts), window=3600)
        assert (await bench.refused(claim, limits=[exact])).reason == "rate_limit"
        one_more = Limit(guard="rate_limit", scope=scope, runs=len(counts) + 1, window=3600)
        await bench.licensed(claim, limits=[one_more])

    async def test_other_scopes_are_not_counted(self, bench: Bench) -> None:
        """What another rule did to another target for another problem fills no narrow limit."""
        await bench.acted("x", ref("rule-x", Lock("stage", "", 1)))
        claim = await bench.running("a", ref("rule-a", Lock("prod", "", 1)))
        scopes: tuple[Scope, ...] = ("rule", "incident", "target")
        limits = [Limit(guard="rate_limit", scope=scope, runs=1, window=3600) for scope in scopes]
        await bench.licensed(claim, limits=limits)

    async def test_tries_of_one_run_count_once(self, bench: Bench) -> None:
        """Limits count other runs, so that a retry neither fills one nor is refused by it, however narrow it is."""
        once = Limit(guard="rate_limit", scope="rule", runs=1, window=3600)
        claim = await bench.running("a", ref(*_rule(1)))
        first = await bench.licensed(claim, limits=[once, COOLDOWN])
        second = await bench.licensed(claim, run=first.run, attempt=2, limits=[once, COOLDOWN])
        await bench.licensed(claim, run=second.run, attempt=3, limits=[once, COOLDOWN])
        await bench.licensed(await bench.running("b", ref(*_rule(2))), limits=[TWICE_AN_HOUR])

    async def test_a_cooldown_counts_from_the_end_of_the_run(self, bench: Bench) -> None:
        """Not from the effect: ten minutes of peace begin when the run is over, to the second."""
        licence = await bench.licensed(await bench.running("a", ref(*_rule(1))))
        run = await bench.concluded(licence, State.VERIFYING, wake_at=T0 + 100)
        waiting = await bench.running("b", ref(*_rule(2)), lease=9_999)
        assert (await bench.refused(waiting, limits=[COOLDOWN])).until is None
        bench.clock.pass_(100)
        looking = next(claim for claim in await bench.claim("w2", lease=9_999) if claim.run.id == run.id)
        await bench.moved(looking.run, State.FAILED)
        refusal = await bench.refused(waiting, limits=[COOLDOWN])
        assert (refusal.kind, refusal.reason, refusal.until) == ("hold", "cooldown", T0 + 700)
        bench.clock.pass_(599)
        assert isinstance(await bench.store.licence(bench.request(waiting, limits=[COOLDOWN])), Refusal)
        bench.clock.pass_(1)
        await bench.licensed(waiting, limits=[COOLDOWN])

    async def test_a_run_that_goes_on_keeps_its_cooldown(self, bench: Bench) -> None:
        """However long ago it acted, a run that still goes on counts as just ended."""
        await bench.concluded(
            await bench.licensed(await bench.running("a", ref(*_rule(1)))), State.HELD, wake_at=T0 + 99_999
        )
        bench.clock.pass_(50_000)
        claim = await bench.running("b", ref(*_rule(2)))
        assert (await bench.refused(claim, limits=[COOLDOWN])).until is None

    async def test_a_run_ends_for_all_its_tries(self, bench: Bench) -> None:
        """After a run that needed several attempts the cooldown ends like any other."""
        first = await bench.licensed(claim := await bench.running("a", ref(*_rule(1))))
        await bench.concluded(first, State.HELD, state="failed", wake_at=T0 + 10)
        bench.clock.pass_(10)
        claim = await bench.claim_one()
        await bench.concluded(await bench.licensed(claim, attempt=2))
        waiting = await bench.running("b", ref(*_rule(2)))
        assert (await bench.refused(waiting, limits=[COOLDOWN])).until == T0 + 610
        bench.clock.pass_(600)
        await bench.licensed(waiting, limits=[COOLDOWN])

    @pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED, State.NEEDS_HUMAN, State.CANCELLED])
    async def test_every_end_begins_the_cooldown(self, bench: Bench, end: State) -> None:
        """What failed, or waits for a person, is not tried again at once either."""
        await bench.acted("a", ref(*_rule(1)), to=end)
        claim = await bench.running("b", ref(*_rule(2)))
        assert (await bench.refused(claim, limits=[COOLDOWN])).until == T0 + 600

    async def test_a_refusal_consumes_nothing(self, bench: Bench) -> None:
        """A hundred refusals later the limit is as full as before, and nothing was written."""
        await bench.acted("a", ref(*_rule(1)))
        await bench.acted("b", ref(*_rule(2)))
        claim = await bench.running("c", ref(*_rule(3)))
        before = await bench.look(claim.run.id)
        for _ in range(100):
            await bench.refused(claim, limits=[TWICE_AN_HOUR])
        assert await bench.look(claim.run.id) == before
        bench.clock.pass_(3600)
        await bench.licensed(claim, limits=[TWICE_AN_HOUR])

    async def test_within_says_what_the_licence_would(self, bench: Bench) -> None:
        """The look ahead of observe mode gives the licence's answer for every target, and takes nothing."""
        limit = Limit(guard="rate_limit", scope="target", runs=1, window=60)
        await bench.acted("a", ref("rule-a", Lock("prod", "a", 9)))
        rule = ref("rule-b", Lock("stage", "", 9), Lock("prod", "b", 9))
        claim = await bench.running("b", rule)
        before = await bench.look(claim.run.id)
        ahead = await bench.store.within([limit], claim.run, claim.incident.key, ["stage", "prod"])
        assert ahead == await bench.refused(claim, limits=[limit], target="prod")
        assert await bench.store.within([limit], claim.run, claim.incident.key, ["stage"]) is None
        bench.clock.pass_(60)
        assert await bench.store.within([limit], claim.run, claim.incident.key, claim.run.targets) is None
        assert await bench.look(claim.run.id) == before

    async def test_sixteen_claimers_never_exceed_a_limit(self, bench: Bench) -> None:
        """640 tries by sixteen workers at once against a limit of 40: exactly 40 licences, and 40 rows to show it."""
        limit = Limit(guard="rate_limit", scope="global", runs=40, window=3600)
        for number in range(640):
            await bench.fires(f"q{number}", ref(f"rule-{number}"))
        granted: list[Licence] = []

        async def worker(name: str) -> None:
            while claims := await bench.claim(name, most=5):
                answers = await asyncio.gather(
                    *(outcome(bench.store.licence(bench.request(claim, limits=[limit]))) for claim in claims)
                )
                for claim, answer in zip(claims, answers, strict=True):
                    if isinstance(answer, Licence):
                        granted.append(answer)
                        await bench.concluded(answer)
                    else:
                        assert isinstance(answer, Refusal) and answer.reason == "rate_limit", answer
                        await bench.moved(claim.run, State.DENIED)

        await asyncio.gather(*(worker(f"w{number}") for number in range(16)))
        assert len({licence.effect_id for licence in granted}) == len(granted) == 40
        assert dict((await bench.store.counts()).states) == {"succeeded": 40, "denied": 600}
        assert (await bench.events()).count("effect.intent") == 40
        assert (await bench.verified()).ok

    async def test_one_attempt_asked_for_many_times_at_once_is_licensed_once(self, bench: Bench) -> None:
        """Twenty tasks that ask for the same permission get it once between them."""
        claim = await bench.running()
        answers = await asyncio.gather(*(outcome(bench.store.licence(bench.request(claim))) for _ in range(20)))
        assert sum(isinstance(answer, Licence) for answer in answers) == 1
        assert sum(isinstance(answer, Lost) for answer in answers) == 19
        assert len(await bench.store.effects(claim.run.id)) == 1
