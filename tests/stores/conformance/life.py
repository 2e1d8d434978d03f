"""What every store must do at the edges of its life: answer while it is open, and say so when it is not."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from remediator.audit import Entry
from remediator.errors import StoreUnavailable
from remediator.facts import GuardState
from remediator.store import Pause, Store
from tests.stores.conformance.kit import T0, Bench, arrival, entry, outcome, ref, sighting, transfer


async def _drain(store: Store) -> list[Any]:
    return [record async for record in store.audit_stream()]


def every_verb(bench: Bench, claim: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    """A call of each verb of the port."""
    store, run = bench.store, claim.run
    return {
        "ping": store.ping,
        "intake": lambda: store.intake(arrival(sighting("z", rules=(ref(),)))),
        "remember": lambda: store.remember({"d": "{}"}),
        "rule_body": lambda: store.rule_body("d"),
        "claim": lambda: store.claim("w", 30, 1),
        "renew": lambda: store.renew([run], 30),
        "save": lambda: store.save(run, entry(run)),
        "licence": lambda: store.licence(bench.request(claim)),
        "conclude": lambda: store.conclude(run, "x", "done", {}, entry(run)),
        "late": lambda: store.late("x", "done", {}, entry(run)),
        "within": lambda: store.within([], run, "k", ["t"]),
        "next_due": store.next_due,
        "run": lambda: store.run(run.id),
        "runs": store.runs,
        "effects": lambda: store.effects(run.id),
        "incident": lambda: store.incident(run.incident_id),
        "incidents": store.incidents,
        "latest": lambda: store.latest("k"),
        "retry": lambda: store.retry(run.id, "user:ann", ""),
        "hasten": lambda: store.hasten(run.id, "user:ann", ""),
        "acknowledge": lambda: store.acknowledge(run.id, "user:ann", ""),
        "incidents_of": lambda: store.incidents_of([run.incident_id]),
        "ask": lambda: bench.asked(claim),
        "approval": lambda: store.approval(run.id),
        "vote": lambda: store.vote(run.id, "d", "user:ann", True, ""),
        "cancel": lambda: store.cancel(run.id, "user:ann", ""),
        "pause": lambda: store.pause(Pause("global", "", "user:ann", T0, None)),
        "resume": lambda: store.resume("global", "user:ann", ""),
        "pauses": store.pauses,
        "tally": lambda: store.tally("rule-a"),
        "past_runs": lambda: store.past_runs("rule", ["a"], 0.0, "", 1),
        "past_changes": lambda: store.past_changes("t", 0.0, "", 1),
        "lives": lambda: store.lives("k", 1),
        "opened": lambda: store.opened(0.0, 1),
        "opened_count": lambda: store.opened_count(0.0, 1.0),
        "targets_firing": store.targets_firing,
        "firing": lambda: store.firing(["x"], 1),
        "announced": lambda: store.announced("a", T0, ""),
        "guard_states": store.guard_states,
        "open_guard": lambda: store.open_guard(GuardState("storm", "global", True, T0, None, "", "x")),
        "close_guard": lambda: store.close_guard("storm", "", "user:ann", ""),
        "transfer_of": lambda: store.transfer_of("k"),
        "transfer": lambda: store.transfer("t"),
        "transfers": store.transfers,
        "save_transfer": lambda: store.save_transfer(transfer().release("over", T0), {}),
        "append": lambda: store.append(Entry(event="x", actor="x")),
        "audit": store.audit,
        "audit_stream": lambda: _drain(store),
        "prune": lambda: store.prune(86400.0, 1),
        "backlog": store.backlog,
        "counts": store.counts,
    }


class Life:
    """The verbs ``ping`` and ``close``, and every other one after it."""

    async def test_ping_answers(self, bench: Bench) -> None:
        """An open store says that it can commit, and leaves no trace of having been asked."""
        await bench.store.ping()
        assert await bench.records() == []

    async def test_a_closed_store_refuses_every_verb(self, bench: Bench) -> None:
        """After close nothing is accepted, nothing hangs, and callers hear that the store is unavailable."""
        claim = await bench.running()
        verbs = every_verb(bench, claim)
        port = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
        assert set(verbs) == port - {"open", "close", "on_wake"}, "a verb of the port is not tried here"
        await bench.store.close()
        for name, call in verbs.items():
            with pytest.raises(StoreUnavailable):
                await call()
                raise AssertionError(f"{name} answered")

    async def test_closing_finishes_what_was_begun(self, bench: Bench) -> None:
        """A delivery that is under way while the store closes is committed or refused, and never left hanging."""
        deliveries = [arrival(sighting(f"q{number}", rules=(ref(),))) for number in range(50)]
        calls = [asyncio.ensure_future(outcome(bench.store.intake(delivery))) for delivery in deliveries]
        await asyncio.sleep(0)
        await bench.store.close()
        answers = await asyncio.wait_for(asyncio.gather(*calls), 10)
        assert all(not isinstance(answer, Exception) or isinstance(answer, StoreUnavailable) for answer in answers)

    async def test_closing_twice_is_closing(self, bench: Bench) -> None:
        """A stop that is asked for twice ends as quietly as one."""
        await bench.store.close()
        await bench.store.close()
