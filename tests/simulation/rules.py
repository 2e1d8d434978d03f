"""The rules of the simulation, in the editions between which replicas reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from remediator.arrival import RuleRef
from remediator.planning import effective_mode, locks
from remediator.rule import Mode, Rule
from remediator.rulebook import Rulebook, rulebook_from_texts
from tests.simulation.places import PlaceRegistry, place

REGISTRY = PlaceRegistry()
DROPPED = frozenset(("pod",))
MAX_RUNS = {"alpha": 1, "beta": 2}
"""Targets, and how many runs may act on one of their subjects at once."""

TURNED = ("valve", "valve", "tap", "vent", "gauge")
"""Things of beta that somebody else sets now and then."""

_BASE = """
rules:
  - name: put-lamp
    mode: auto
    when: {alert: Lamp}
    guards: [{cooldown: 90s}]
    probes: [{id: seen, uses: place.look, target: alpha, with: {thing: lamp}}]
    if: probes.seen.n != 999
    steps:
      - {uses: place.put, target: alpha, with: {thing: lamp, to: 3}, timeout: 20s, retry: {attempts: 2, backoff: 5s}}
    verify: {until: alert.resolved, within: 4m, every: 20s}
    max_age: 10m
  - name: watch-lamp
    mode: observe
    when: {alert: Lamp}
    steps: [{uses: place.kick, target: alpha, with: {thing: lamp}, timeout: 20s}]
  - name: kick-door
    mode: auto
    when: {alert: Door}
    guards: [{rate_limit: {runs: 2, per: 5m}}]
    steps:
      - {uses: place.kick, target: alpha, with: {thing: door}, timeout: 20s, retry: {attempts: 2, backoff: 5s}}
    max_age: 10m
  - name: shut-door
    mode: auto
    when: {alert: [Door, Lamp]}
    guards: [{cooldown: {for: 60s, scope: target}}, {rate_limit: {runs: 3, per: 4m, scope: global}}]
    steps:
      - {uses: place.settle, target: alpha, with: {thing: door, to: 1}, timeout: 20s, retry: {attempts: 3, backoff: 3s}}
    max_age: 10m
  - name: pay-wallet
    mode: approve
    when: {alert: Low}
    guards: [{approval: {needed: 1, expires: 5m}}, {rate_limit: {runs: 1, per: 2m, scope: incident}}]
    steps:
      - uses: place.pay
        target: beta
        with: {thing: "${{ labels.wallet }}", amount: 5}
        timeout: 20s
        retry: {attempts: 3, backoff: 5s}
    max_age: 10m
  - name: two-steps
    mode: auto
    when: {alert: Two, group_by: [zone]}
    steps:
      - {uses: place.swap, target: beta, with: {thing: gate, to: 7}, timeout: 20s, retry: {attempts: 3, backoff: 2s}}
      - {uses: place.add, target: beta, with: {thing: gate, by: 2}, timeout: 20s, retry: {attempts: 3, backoff: 2s}}
    max_age: 10m
  - name: ask-twice
    mode: approve
    when: {alert: Two}
    guards: [{approval: {needed: 2, expires: 4m}}]
    steps:
      - {uses: place.kick, target: beta, with: {thing: gate}, timeout: 20s}
      - {uses: place.put, target: alpha, with: {thing: lamp, to: 1}, timeout: 20s}
    verify: {until: alert.resolved, within: 3m, every: 30s}
    max_age: 10m
  - name: add-later
    mode: auto
    when: {alert: Slow, for: 45s}
    guards: [{cooldown: {for: 30s, scope: global}}]
    steps:
      - {uses: place.add, target: alpha, with: {thing: pile, by: 1}, timeout: 20s, retry: {attempts: 3, backoff: 5s}}
    max_age: 10m
  - name: sweep-pile
    mode: auto
    when: {alert: [Slow, Door]}
    steps:
      - {uses: place.add, target: alpha, with: {thing: pile, by: 3}, timeout: 20s, retry: {attempts: 3, backoff: 5s}}
    max_age: 10m
  - name: level-pile
    mode: auto
    when: {alert: [Slow, Door]}
    steps: [{uses: place.put, target: alpha, with: {thing: pile, to: 0}, timeout: 20s}]
    max_age: 10m
  - name: try-both
    mode: auto
    when: {alert: [Flow, Slow]}
    guards: [{cooldown: 30s}]
    probes: [{id: seen, uses: place.look, target: beta, with: {thing: valve}}]
    remedies:
      - name: valve
        steps:
          - {uses: place.put, target: alpha, with: {thing: alarm, to: 1}, timeout: 20s, retry: {attempts: 2}}
          - uses: place.turn
            target: beta
            with: {thing: valve, to: 4}
            timeout: 20s
            retry: {attempts: 2, backoff: 5s}
            lease: {settle: 40s, at_most: 4m}
        verify: {until: alert.resolved, within: 50s, every: 20s}
      - name: tap
        if: probes.seen.n < 100
        steps:
          - {wait: 15s}
          - {uses: place.turn, target: beta, with: {thing: tap, to: 1}, timeout: 20s, retry: {attempts: 2, backoff: 5s}}
        verify: {until: alert.resolved, within: 2m, every: 20s, settle: 5s}
    finally:
      - {uses: place.put, target: alpha, with: {thing: alarm, to: 0}, timeout: 20s, retry: {attempts: 3, backoff: 5s}}
    max_age: 10m
  - name: air
    mode: auto
    when: {alert: [Flow, Door]}
    probes: [{id: gauge, uses: place.look, target: beta, with: {thing: gauge}}]
    remedies:
      - name: vent
        steps:
          - uses: place.turn
            target: beta
            with: {thing: vent, to: 2}
            timeout: 20s
            retry: {attempts: 2}
            lease: {settle: 20s, at_most: 3m}
        verify: {until: probes.gauge.n == 0, within: 50s, every: 20s, settle: 15s}
      - name: gauge
        steps: [{uses: place.put, target: beta, with: {thing: gauge, to: 0}, timeout: 20s}]
        verify: {until: probes.gauge.n == 0 && alert.resolved, within: 1m, every: 20s}
    max_age: 10m
  - name: lend
    mode: approve
    when: {alert: Flow}
    steps:
      - uses: place.turn
        target: beta
        with: {thing: valve, to: 9}
        timeout: 20s
        lease: {settle: 30s, at_most: 3m}
      - {uses: place.kick, target: alpha, with: {thing: bell}, timeout: 20s}
    max_age: 10m
"""

EDITIONS: Mapping[str, str] = {
    "base": _BASE,
    "edited": _BASE.replace("lamp, to: 3", "lamp, to: 4").replace("amount: 5", "amount: 6").replace("90s", "2m"),
    "without": _BASE.replace("alert: Door}", "alert: Nothing}").replace("name: kick-door", "name: kick-nothing"),
}
OFTEN_GONE = "kick-door"
"""The rule that one of the editions lacks."""


@dataclass(frozen=True)
class Edition:
    """One edition as a replica loads it."""

    rulebook: Rulebook
    rules: Mapping[str, Rule]
    refs: Mapping[str, RuleRef]
    mode_max: Mode


@lru_cache(maxsize=32)
def edition(name: str, mode_max: Mode) -> Edition:
    """The edition ``name`` under a ceiling of modes."""
    places = {target: place(target, max_runs=most) for target, most in MAX_RUNS.items()}
    rulebook = rulebook_from_texts([("rules.yaml", EDITIONS[name].encode())], REGISTRY, places)
    refs = {
        rule.name: RuleRef(
            rule.name, rule.digest, effective_mode(rule, mode_max).value, locks(rule, REGISTRY, places), rule.when.for_
        )
        for rule in rulebook.rules
    }
    return Edition(rulebook, {rule.name: rule for rule in rulebook.rules}, refs, mode_max)


@lru_cache(maxsize=1)
def by_digest() -> Mapping[str, Rule]:
    """Every rule of every edition."""
    return {rule.digest: rule for name in EDITIONS for rule in edition(name, Mode.AUTO).rules.values()}
