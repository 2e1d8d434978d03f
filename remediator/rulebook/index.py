"""Which rules answer an alert: a look-up by alert name and by one exact label, then the matchers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from remediator.matcher import Matcher, parse_matchers
from remediator.rule import Rule


class Entry(NamedTuple):
    """A rule, its place in the order of the files, and its matchers."""

    order: int
    rule: Rule
    matchers: tuple[Matcher, ...]


class Match(NamedTuple):
    """Why a rule answers an alert or does not: the alert's name, and matcher by matcher."""

    rule: Rule
    alert: bool
    matchers: tuple[tuple[Matcher, bool], ...]

    @property
    def matched(self) -> bool:
        """True when the rule answers the alert."""
        return self.alert and all(ok for _, ok in self.matchers)


@dataclass(slots=True)
class _Bucket:
    """Rules of one alert name: by label and value where they demand one, and the rest."""

    keyed: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)
    rest: list[Entry] = field(default_factory=list)


class Index:
    """Rules by the alerts they answer. Matching costs the candidates, not the number of rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.entries = [Entry(order, rule, matchers_of(rule)) for order, rule in enumerate(rules)]
        self._buckets: dict[str, _Bucket] = {}
        for entry in self.entries:
            for alert in dict.fromkeys(entry.rule.when.alert):
                self._add(self._buckets.setdefault(alert, _Bucket()), entry)

    @staticmethod
    def _add(bucket: _Bucket, entry: Entry) -> None:
        exact = next((m for m in entry.matchers if m.operator == "=" and m.value), None)
        if exact is None:
            bucket.rest.append(entry)
        else:
            bucket.keyed.setdefault(exact.name, {}).setdefault(exact.value, []).append(entry)

    def match(self, labels: Mapping[str, str]) -> tuple[Rule, ...]:
        """The rules that answer an alert with ``labels``, in the order of the files."""
        bucket = self._buckets.get(labels.get("alertname", ""))
        if bucket is None:
            return ()
        candidates = bucket.rest
        for name, values in bucket.keyed.items():
            if (found := values.get(labels.get(name, ""))) is not None:
                candidates = candidates + found if candidates else found
        matched = [entry for entry in candidates if all(m.matches(labels) for m in entry.matchers)]
        if len(matched) > 1:
            matched.sort(key=lambda entry: entry.order)
        return tuple(entry.rule for entry in matched)

    def explain(self, labels: Mapping[str, str]) -> tuple[Match, ...]:
        """For every rule, in the order of the files, why it answers an alert with ``labels`` or does not."""
        name = labels.get("alertname", "")
        return tuple(
            Match(e.rule, name in e.rule.when.alert, tuple((m, m.matches(labels)) for m in e.matchers))
            for e in self.entries
        )


def matchers_of(rule: Rule) -> tuple[Matcher, ...]:
    """The matchers of ``rule``, compiled. Raises MatcherError."""
    return tuple(m for text in rule.when.matchers for m in parse_matchers(text))
