"""From a webhook body to a committed delivery: read, match, hand to the store. What could refuse happens later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from remediator.alert import Alert, Bounds, Delivery, read_delivery
from remediator.arrival import Arrival, Receipt, RuleRef, Sighting
from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable
from remediator.incident import group_identity, identity
from remediator.matcher import Matcher, parse_matchers
from remediator.metrics import Metrics
from remediator.rule import Rule
from remediator.store import Store

_log = structlog.get_logger("remediator.intake")
_REMEMBERED = 2048
_REPEATED = 2 << 20
"""Bytes of bodies that are remembered as repeats; what was read of them takes about five times as much."""
_BACKLOG_AGE = 0.25


class Matching(Protocol):
    """What intake needs of a rulebook."""

    def match(self, labels: Mapping[str, str]) -> Sequence[Rule]:
        """The rules that answer an alert with these labels."""
        ...


class _Template(NamedTuple):
    member: str
    keyed: tuple[tuple[str, Mapping[str, str], tuple[RuleRef, ...]], ...]
    matched: bool


class _Reading(NamedTuple):
    delivery: Delivery
    sightings: tuple[Sighting, ...]
    unmatched: int


class _Repeats:
    """Readings of bodies that came at least twice: an unchanged group is told again byte for byte, by every peer.

    Bounded by the bytes of the bodies. What comes once, as in a storm of new alerts, takes no place.
    """

    def __init__(self) -> None:
        self._readings: dict[bytes, _Reading] = {}
        self._size = 0
        self._once: dict[int, None] = {}

    def known(self, body: bytes) -> _Reading | None:
        """How ``body`` was read before, if that is known."""
        return self._readings.get(body)

    def told(self, reading: _Reading) -> None:
        """A body was read: remember it from its second time on."""
        body = reading.delivery.body
        if hash(body) not in self._once:
            self._once[hash(body)] = None
            if len(self._once) > _REMEMBERED:
                del self._once[next(iter(self._once))]
            return
        self._readings[body] = reading
        self._size += len(body)
        while self._size > _REPEATED:
            oldest = next(iter(self._readings))
            self._size -= len(oldest)
            del self._readings[oldest]


@dataclass(slots=True)
class IntakeRules:
    """The rules as intake sees them; replaced as a whole by a reload."""

    rulebook: Matching
    refs: Mapping[str, RuleRef]
    """By rule name."""
    drop_labels: frozenset[str]
    watched: tuple[tuple[Matcher, ...], ...] = ()
    """Alerts that guards look at: kept as incidents though no rule answers them."""


class Intake:
    """Accepts deliveries. ``wake`` is called when runs were queued or an incident closed."""

    def __init__(
        self,
        store: Store,
        rules: IntakeRules,
        *,
        clock: Clock,
        metrics: Metrics,
        bounds: Bounds,
        backlog: int,
        deadline: float,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._firing = metrics.alerts_received_total.labels("firing")
        self._resolved = metrics.alerts_received_total.labels("resolved")
        self._bounds = bounds
        self._backlog = backlog
        self._deadline = deadline
        self._wake = wake
        self._waiting = 0
        self._waiting_known_at = float("-inf")
        self.replace(rules)

    def replace(self, rules: IntakeRules) -> None:
        """Use another set of rules from the next delivery on."""
        self._rules = rules
        self._templates: dict[tuple[str, ...], _Template] = {}
        self._repeats = _Repeats()

    async def accept(self, body: bytes, source: str) -> Receipt:
        """The receipt of a delivery that is committed.

        Raises DeliveryError (it never will be accepted) and StoreUnavailable (not now: overloaded, or no commit within
        the deadline; the sender must try again).
        """
        reading = self._read(body)
        delivery, sightings = reading.delivery, reading.sightings
        arrival = Arrival(delivery, source, self._clock.now(), sightings, reading.unmatched)
        if any(sighting.alert.firing for sighting in arrival.sightings):
            # Only what may open a run: ends are always welcome, they are what makes a backlog shorter.
            await self._bound_backlog()
        crashpoint("intake.before_commit")
        try:
            async with asyncio.timeout(self._deadline):
                receipt = await self._store.intake(arrival)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not commit within {self._deadline:g} s") from None
        crashpoint("intake.after_commit")
        self._count(delivery, receipt)
        if receipt.runs or "closed" in receipt.notices:
            self._waiting += len(receipt.runs)
            self._wake()
        return receipt

    async def _bound_backlog(self) -> None:
        # Accepting must not outrun acting without bound, and 200-and-drop is the one thing that may not happen.
        if self._waiting >= self._backlog or self._clock.monotonic() - self._waiting_known_at > _BACKLOG_AGE:
            self._waiting_known_at = self._clock.monotonic()
            self._waiting = await self._store.backlog()
        if self._waiting >= self._backlog:
            message = f"{self._waiting} runs wait to be carried out; at most {self._backlog} may (intake.backlog)"
            raise StoreUnavailable(message)

    def _read(self, body: bytes) -> _Reading:
        reading = self._repeats.known(body)
        if reading is None:
            reading = self._match(read_delivery(body, self._bounds))
            self._repeats.told(reading)
        return reading

    def _match(self, delivery: Delivery) -> _Reading:
        sightings, unmatched = [], 0
        for alert in delivery.alerts:
            template = self._template(alert)
            if not template.matched:
                unmatched += 1
            for key, labels, refs in template.keyed:
                sightings.append(Sighting(alert, template.member, key, labels, refs))
        # One order for all: two deliveries can never wait for each other's rows.
        sightings.sort(key=_by_key)
        return _Reading(delivery, tuple(sightings), unmatched)

    def _template(self, alert: Alert) -> _Template:
        labels = (*alert.labels, *alert.labels.values())
        template = self._templates.get(labels)
        if template is None:
            if len(self._templates) >= _REMEMBERED:
                self._templates.clear()
            template = self._templates[labels] = _template(alert.labels, self._rules)
        return template

    def _count(self, delivery: Delivery, receipt: Receipt) -> None:
        firing = sum(alert.firing for alert in delivery.alerts)
        self._firing.inc(firing)
        self._resolved.inc(len(delivery.alerts) - firing)
        if delivery.truncated:
            self._metrics.alerts_truncated_total.inc(delivery.truncated)
            _log.warning(
                "Alertmanager left alerts out of a delivery; set max_alerts: 0 at its receiver",
                truncated=delivery.truncated,
                receiver=delivery.receiver,
                delivery=receipt.delivery_id,
            )


def _by_key(sighting: Sighting) -> str:
    return sighting.key


def _template(labels: Mapping[str, str], rules: IntakeRules) -> _Template:
    key, kept = identity(labels, rules.drop_labels)
    # The same alert of two pods is two members of one incident, which goes on while either of them fires.
    member = key if len(kept) == len(labels) else identity(labels, ())[0]
    alone: list[RuleRef] = []
    keyed: list[tuple[str, Mapping[str, str], tuple[RuleRef, ...]]] = []
    for rule in rules.rulebook.match(labels):
        ref = rules.refs[rule.name]
        if rule.when.group_by is None:
            alone.append(ref)
        else:
            group, grouped = group_identity(rule.name, labels, rule.when.group_by)
            keyed.append((group, grouped, (ref,)))
    if alone:
        keyed.append((key, kept, tuple(alone)))
    matched = bool(keyed)
    if not matched and any(all(matcher.matches(labels) for matcher in each) for each in rules.watched):
        keyed.append((key, kept, ()))
    return _Template(member, tuple(keyed), matched)


def intake_rules(
    rulebook: Matching, refs: Mapping[str, RuleRef], drop_labels: Collection[str], watched: Collection[str] = ()
) -> IntakeRules:
    """Rules made ready for intake; ``watched`` are matchers of alerts that their guards look at."""
    return IntakeRules(
        rulebook, refs, frozenset(drop_labels), tuple(parse_matchers(text) for text in sorted({*watched}))
    )
