"""Proves what becomes of a body between the socket and the store: matched, grouped, bounded, and told to the worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from remediator.alert import Bounds
from remediator.arrival import RuleRef
from remediator.catalogue import Catalogue
from remediator.clock import format_instant
from remediator.errors import DeliveryError, StoreUnavailable
from remediator.intake import Intake, IntakeRules, intake_rules
from remediator.metrics import Metrics
from remediator.rulebook import rulebook_from_texts
from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.kit import T0, CountingIds, StoreClock

RULE = """\
  - name: {name}
    mode: observe
    when: {{alert: {alert}{more}}}
    steps: [{{uses: http.post, target: api, with: {{path: /x}}}}]
"""
PODS = "rules:\n" + RULE.format(name="pods", alert="PodDown", more="")
GROUPS = "rules:\n" + RULE.format(name="groups", alert="PodDown", more=", group_by: [job]")
BOTH = PODS + RULE.format(name="groups", alert="PodDown", more=", group_by: [job]")


@dataclass
class Bed:
    """An intake over a store in memory."""

    store: SqliteStore
    clock: StoreClock
    metrics: Metrics
    woken: list[None] = field(default_factory=list)

    def intake(self, rules: IntakeRules, backlog: int) -> Intake:
        """An intake with these rules."""
        return Intake(
            self.store,
            rules,
            clock=self.clock,
            metrics=self.metrics,
            bounds=Bounds(),
            backlog=backlog,
            deadline=5.0,
            wake=lambda: self.woken.append(None),
        )


def _rules(text: str, drop: Sequence[str] = ()) -> IntakeRules:
    rulebook = rulebook_from_texts([("rules.yaml", text.encode())], Catalogue())
    refs = {rule.name: RuleRef(rule.name, rule.digest, "observe", (), 0.0) for rule in rulebook.rules}
    return intake_rules(rulebook, refs, drop)


Deliver = Callable[..., Any]


@asynccontextmanager
async def bed(text: str, drop: Sequence[str] = (), *, backlog: int = 100) -> AsyncIterator[tuple[Bed, Intake, Deliver]]:
    """An intake and a word to deliver alerts with, which says what they were taken for."""
    clock = StoreClock()
    store = SqliteStore(":memory:", clock=clock, ids=CountingIds())
    await store.open()
    made = Bed(store, clock, Metrics())
    intake = made.intake(_rules(text, drop), backlog)

    async def deliver(*alerts: Mapping[str, Any], **more: Any) -> dict[str, int]:
        body = json.dumps({"version": "4", "alerts": alerts} | more).encode()
        return dict((await intake.accept(body, "am-1")).notices)

    yield made, intake, deliver
    await store.close()


def _alert(pod: str, *, job: str = "shop", start: float = 0.0, end: float | None = None) -> dict[str, Any]:
    told = {
        "status": "firing" if end is None else "resolved",
        "labels": {"alertname": "PodDown", "job": job, "pod": pod},
        "startsAt": format_instant(T0 + start),
    }
    return told if end is None else told | {"endsAt": format_instant(T0 + end)}


async def test_alerts_that_differ_in_dropped_labels_are_one_incident() -> None:
    """Two pods whose alerts began an hour apart are one problem with one run, which lasts while either fires."""
    async with bed(PODS, ["pod"]) as (made, _, deliver):
        assert await deliver(_alert("p1")) == {"new": 1}
        assert await deliver(_alert("p1"), _alert("p2", start=3600)) == {"repeat": 1, "joined": 1}
        assert await deliver(_alert("p1"), _alert("p2", start=3600)) == {"repeat": 2}
        (incident,) = await made.store.incidents()
        assert (len(incident.firing()), dict(incident.labels)) == (2, {"alertname": "PodDown", "job": "shop"})
        assert await deliver(_alert("p1", end=4000)) == {"resolved": 1}
        assert await deliver(_alert("p2", start=3600, end=5000)) == {"closed": 1}
        assert len(await made.store.runs()) == 1


async def test_without_dropped_labels_each_alert_is_its_own_incident() -> None:
    """What the settings do not drop tells problems apart."""
    async with bed(PODS) as (made, _, deliver):
        assert await deliver(_alert("p1"), _alert("p2")) == {"new": 2}
        assert len(await made.store.runs()) == 2


async def test_a_rule_groups_as_it_says() -> None:
    """``group_by`` makes one incident of all alerts that share these labels, and another one of the next job's."""
    async with bed(GROUPS) as (made, _, deliver):
        assert await deliver(_alert("p1"), _alert("p2"), _alert("p3", job="bank")) == {"new": 2, "joined": 1}
        assert sorted(incident.labels["job"] for incident in await made.store.incidents()) == ["bank", "shop"]


async def test_rules_that_group_differently_do_not_share_incidents() -> None:
    """Each rule sees the problem as it groups it, and each gets its run."""
    async with bed(BOTH) as (made, _, deliver):
        assert await deliver(_alert("p1"), _alert("p2")) == {"new": 3, "joined": 1}
        assert sorted(run.rule for run in await made.store.runs()) == ["groups", "pods", "pods"]


async def test_what_no_rule_answers_is_accepted_and_counted() -> None:
    """A delivery that nobody has a rule for is kept and recorded, opens nothing and wakes nobody."""
    async with bed(PODS) as (made, _, deliver):
        other = _alert("p1") | {"labels": {"alertname": "Other"}}
        assert await deliver(other) == {}
        (record,) = await made.store.audit()
        assert json.loads(record.body)["detail"]["unmatched"] == 1
        assert (await made.store.incidents(), made.woken) == ([], [])


async def test_the_worker_is_woken_when_there_is_something_to_do() -> None:
    """New runs and ended incidents wake the worker; repeats do not."""
    async with bed(PODS) as (made, _, deliver):
        await deliver(_alert("p1"))
        await deliver(_alert("p1"))
        assert len(made.woken) == 1
        await deliver(_alert("p1", end=60))
        assert len(made.woken) == 2


async def test_more_than_the_backlog_is_refused_until_it_is_carried_out() -> None:
    """Accepting never outruns acting without bound: the sender is told to come back, and later is accepted."""
    async with bed(PODS, backlog=2) as (made, _, deliver):
        await deliver(_alert("p1"), _alert("p2"))
        with pytest.raises(StoreUnavailable, match="2 runs wait"):
            await deliver(_alert("p3"))
        assert len(await made.store.runs()) == 2
        await made.store.cancel((await made.store.run("@latest")).id, "user:ann", "")
        made.clock.pass_(1)
        assert await deliver(_alert("p3")) == {"new": 1}


async def test_a_refused_body_leaves_nothing() -> None:
    """One bad alert refuses its whole delivery, so that nothing of it is half accepted."""
    async with bed(PODS) as (made, _, deliver):
        with pytest.raises(DeliveryError):
            await deliver(_alert("p1"), _alert("p2") | {"startsAt": "soon"})
        assert (await made.store.incidents(), await made.store.audit()) == ([], [])


async def test_replaced_rules_hold_from_the_next_delivery() -> None:
    """After a reload an alert that was matched before is matched anew."""
    async with bed(PODS) as (made, intake, deliver):
        await deliver(_alert("p1"))
        intake.replace(_rules(GROUPS))
        assert await deliver(_alert("p1")) == {"new": 1}
        assert [run.rule for run in await made.store.runs()] == ["groups", "pods"]


async def test_figures_say_what_came_in() -> None:
    """Alerts are counted by their own status, and what Alertmanager left out is counted too."""
    async with bed(PODS) as (made, _, deliver):
        await deliver(_alert("p1"), _alert("p2", end=5), status="firing", truncatedAlerts=3)
        read = made.metrics.registry.get_sample_value
        assert read("remediator_alerts_received_total", {"status": "firing"}) == 1
        assert read("remediator_alerts_received_total", {"status": "resolved"}) == 1
        assert read("remediator_alerts_truncated_total") == 3


async def test_a_body_told_again_is_matched_by_the_rules_in_force() -> None:
    """A group that Alertmanager repeats byte for byte means the same each time, until other rules answer it."""
    async with bed(PODS) as (made, intake, deliver):
        assert [await deliver(_alert("p1")) for _ in range(4)] == [{"new": 1}, *[{"repeat": 1}] * 3]
        intake.replace(_rules(GROUPS))
        assert [await deliver(_alert("p1")) for _ in range(3)] == [{"new": 1}, *[{"repeat": 1}] * 2]
        assert [run.rule for run in await made.store.runs()] == ["groups", "pods"]


async def test_repeats_are_remembered_within_bounds() -> None:
    """Bodies that come twice fill a bounded memory, and those that had to make room are read again as they are."""
    async with bed(PODS) as (made, _, deliver):
        padding = "x" * 200_000
        for _ in range(3):
            for number in range(20):
                await deliver(_alert(f"p{number}"), ignored=padding)
        assert len(await made.store.incidents()) == 20
        assert made.metrics.registry.get_sample_value("remediator_alerts_received_total", {"status": "firing"}) == 60


async def test_alerts_that_only_guards_look_at_are_kept_without_runs() -> None:
    """Such an alert becomes an incident without a run; it counts as matched by no rule, and ends like any other."""
    async with bed(PODS) as (b, _, _deliver):
        rules = rulebook_from_texts([("rules.yaml", PODS.encode())], Catalogue())
        refs = {rule.name: RuleRef(rule.name, rule.digest, "observe", (), 0.0) for rule in rules.rules}
        watched = ['alertname="Watchdog", severity!="none"', 'alertname=~"Pod.*"']
        intake = b.intake(intake_rules(rules, refs, (), watched), 100)

        async def tell(name: str, status: str = "firing") -> tuple[int, dict[str, int]]:
            alert = {"status": status, "labels": {"alertname": name}, "annotations": {},
                     "startsAt": format_instant(T0), "endsAt": format_instant(T0 + 60)}  # fmt: skip
            receipt = await intake.accept(json.dumps({"version": "4", "alerts": [alert]}).encode(), "test")
            return len(receipt.runs), dict(receipt.notices)

        assert await tell("Watchdog") == (0, {"new": 1})
        assert await tell("Other") == (0, {})
        assert await tell("PodDown") == (1, {"new": 1})
        (dog, _pod) = sorted(await b.store.incidents(), key=lambda i: i.id)
        for _ in range(5):
            b.clock.pass_(60)
            assert await tell("Watchdog") == (0, {"repeat": 1})
            assert (await b.store.incident(dog.id)).seen_at == b.clock.at
        assert await tell("Watchdog", "resolved") == (0, {"closed": 1})
        assert not (await b.store.incident(dog.id)).open
        records = await b.store.audit(event="delivery.accepted", limit=10)
        assert [json.loads(r.body)["detail"]["unmatched"] for r in records][:3] == [1, 1, 0]
