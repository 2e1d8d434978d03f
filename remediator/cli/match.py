"""``remediator match``: which rules would answer an alert, and matcher by matcher why or why not."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import click

from remediator.catalogue import Catalogue
from remediator.clock import format_duration
from remediator.expression import CONDITION, IF, LATER_IF, Expression, ExpressionError
from remediator.matcher import Matcher
from remediator.problem import ProblemsError, nearest, printable
from remediator.rule import Rule, Step
from remediator.rulebook import Match, Rulebook, load_rulebook
from remediator.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Alert:
    """What is asked about: labels, and annotations for conditions that read them."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@click.command()
@click.argument("labels", nargs=-1)
@click.option(
    "--alert", "alert_file", help="A file with an alert or a whole webhook body as JSON; - reads it from here."
)
@click.option(
    "--rules.path", "rules_paths", multiple=True, help="Files, directories or globs of rules.  [default: rules]"
)
@click.option("--config.file", "config_file", help="Settings, for targets, severities and guards of every rule.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def match(
    labels: Sequence[str],
    alert_file: str | None,
    rules_paths: Sequence[str],
    config_file: str | None,
    output: str,
) -> None:
    """Show which rules answer an alert, and why or why not.

    LABELS are name=value, the first may be only the alert's name: remediator match HighQueueDepth severity=warning.
    The exit status is 0 if some rule matches and 1 if none does.
    """
    alerts = _alerts(labels, alert_file)
    catalogue = Catalogue()
    try:
        settings = load_settings(config_file, catalogue) if config_file is not None else None
        targets, policies = (settings.targets, settings.escalations) if settings is not None else (None, None)
        book = load_rulebook(rules_paths or ["rules"], catalogue, targets, policies)
    except ProblemsError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None
    answers = [(alert, _explained(book, alert, settings)) for alert in alerts]
    if output == "json":
        told = [
            {"labels": dict(alert.labels), "rules": [_as_json(book, a, settings) for a in found]}
            for alert, found in answers
        ]
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for alert, found in answers:
            _print(book, alert, found, settings)
    if not any(answer.match.matched for _, found in answers for answer in found):
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _Said:
    """What an expression gives for the alert alone; None where it cannot be told, ``error`` then says why."""

    source: str
    answer: bool | None = None
    error: str = ""

    @property
    def mark(self) -> str:
        """A tick, a cross or a question mark."""
        return "?" if self.answer is None else _tick(self.answer)


@dataclass(frozen=True, slots=True)
class _Answer:
    match: Match
    condition: _Said | None
    if_: _Said | None
    remedies: Sequence[_Said | None]
    """The condition of each remedy, None where it has none."""


def _explained(book: Rulebook, alert: Alert, settings: Settings | None) -> list[_Answer]:
    """Rules that answer to the alert's name, each with its condition."""
    out = []
    for found in book.explain(alert.labels):
        if not found.alert:
            continue
        rule, known = found.rule, _known(found, alert, settings)
        probes = [probe.id for probe in rule.probes]
        steps = [rule.step_id(index) for index in range(len(rule.script))]
        out.append(
            _Answer(
                found,
                _ask(rule.when.condition, CONDITION, known),
                _ask(rule.if_, IF, known, probes),
                [_ask(remedy.if_, LATER_IF, known, probes, steps) for remedy in rule.tries],
            )
        )
    return out


def _ask(
    source: str | None,
    names: frozenset[str],
    known: Mapping[str, Any],
    probes: Sequence[str] = (),
    steps: Sequence[str] = (),
) -> _Said | None:
    """What ``source`` gives as far as the alert alone can tell; what probes and steps will show is not known yet."""
    if source is None:
        return None
    try:
        return _Said(source, Expression.compile(source, names, probes=probes, steps=steps).evaluate(known))
    except ExpressionError as problem:
        later = [name for name in ("probes", "steps") if re.search(rf"\b{name}\b", source)]
        if names is not CONDITION and later:
            return _Said(source, error=f"depends on what {' and '.join(later)} will show")
        return _Said(source, error=f"cannot be told, which is a no: {problem}")


def _known(found: Match, alert: Alert, settings: Settings | None) -> dict[str, Any]:
    severity = alert.labels.get("severity", "")
    severities = settings.severities.get(found.rule.service, {}) if settings is not None else {}
    one = {"status": "firing", "labels": alert.labels, "annotations": alert.annotations, "starts_at": 0.0}
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "alerts": [one],
        "count": 1,
        "severity": severities.get(severity, severity),
        "probes": {},
        "steps": {},
    }


def _guards(found: Match, settings: Settings | None) -> list[Mapping[str, Any]]:
    return [*(settings.guards if settings is not None else []), *found.rule.guards]


def _as_json(book: Rulebook, answer: _Answer, settings: Settings | None) -> dict[str, Any]:
    rule = answer.match.rule
    return {
        "name": rule.name,
        "file": book.file_of(rule.name),
        "matched": answer.match.matched,
        "mode": rule.mode.value,
        "matchers": [{"matcher": str(m), "matched": ok} for m, ok in answer.match.matchers],
        "for": format_duration(rule.when.for_),
        "condition": rule.when.condition,
        "condition_holds": answer.condition.answer if answer.condition else None,
        "condition_error": (answer.condition.error or None) if answer.condition else None,
        "if": rule.if_,
        "if_holds": answer.if_.answer if answer.if_ else None,
        "guards": _guards(answer.match, settings),
        "remedies": [
            {
                "name": remedy.name,
                "if": remedy.if_,
                "if_holds": said.answer if said else None,
                "if_unknown": (said.error or None) if said else None,
                "steps": [_step(step) for step in remedy.steps],
                "verify": remedy.verify.until if remedy.verify else None,
            }
            for remedy, said in zip(rule.tries, answer.remedies, strict=True)
        ],
        "finally": [_step(step) for step in rule.finally_],
    }


def _step(step: Step) -> str:
    if step.wait is not None:
        return f"wait {format_duration(step.wait.for_)}" if step.wait.for_ is not None else "wait"
    lease = f", for {format_duration(step.lease.at_most)} at most" if step.lease else ""
    return f"{step.uses} on {step.target}{lease}"


def _print(book: Rulebook, alert: Alert, found: list[_Answer], settings: Settings | None) -> None:
    shown = ", ".join(f'{name}="{value}"' for name, value in sorted(alert.labels.items()))
    click.echo(printable(f"{{{shown}}}"))
    if not found:
        name = alert.labels.get("alertname", "")
        hint = nearest(name, {a for rule in book.rules for a in rule.when.alert})
        click.echo(printable(f'  ✗ no rule answers to alertname "{name}"{"; " + hint if hint else ""}'))
    for answer in found:
        rule = answer.match.rule
        click.echo(f"  {_tick(answer.match.matched)} {rule.name}  mode {rule.mode}, {book.file_of(rule.name)}")
        click.echo(f"      {_tick(True)} alert {alert.labels.get('alertname')}")
        for matcher, ok in answer.match.matchers:
            click.echo(printable(f"      {_tick(ok)} {matcher}{'' if ok else _value(matcher, alert)}"))
        _print_said("condition", answer.condition, "      ")
        if rule.when.for_:
            click.echo(f"      · acts once the alert has been firing for {format_duration(rule.when.for_)}")
        for entry in _guards(answer.match, settings):
            name, value = next(iter(entry.items()))
            click.echo(f"      · guard {name}: {value if isinstance(value, str) else json.dumps(value)}")
        _print_said("if", answer.if_, "      ")
        _print_remedies(rule, answer)


def _print_said(what: str, said: _Said | None, indent: str) -> None:
    if said is not None:
        why = f"  ({said.error})" if said.error else ""
        click.echo(printable(f"{indent}{said.mark} {what}: {' '.join(said.source.split())}{why}"))


def _print_remedies(rule: Rule, answer: _Answer) -> None:
    """What would be tried, in order, as far as the alert alone can tell."""
    for remedy, said in zip(rule.tries, answer.remedies, strict=True):
        name = f" {remedy.name}" if remedy.name else ""
        steps = "; ".join(map(_step, remedy.steps))
        click.echo(printable(f"      {said.mark if said else '·'} remedy{name}: {steps}"))
        _print_said("if", said, "          ")
        if remedy.verify is not None:
            until, within = " ".join(remedy.verify.until.split()), format_duration(remedy.verify.within)
            click.echo(printable(f"          helped when, within {within}: {until}"))
    if rule.finally_:
        click.echo(printable(f"      · in any case afterwards: {'; '.join(map(_step, rule.finally_))}"))


def _value(matcher: Matcher, alert: Alert) -> str:
    value = alert.labels.get(matcher.name)
    return f"  (there is no {matcher.name})" if value is None else f'  ({matcher.name} is "{value}")'


def _tick(ok: bool) -> str:
    return "✓" if ok else "✗"


def _alerts(words: Sequence[str], file: str | None) -> list[Alert]:
    """The alerts that the command line names. Raises a usage error."""
    if bool(words) == (file is not None):
        raise click.UsageError("write the alert's labels as name=value, or --alert FILE")
    if file is not None:
        return _from_file(file)
    labels: dict[str, str] = {}
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not equals and index == 0:
            name, value = "alertname", word
        elif not equals or not name:
            raise click.UsageError(f'"{word}" is not name=value')
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        labels[name] = value
    return [Alert(labels, {})]


def _from_file(file: str) -> list[Alert]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        data = json.loads(text)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} is not JSON: {error}") from None
    if isinstance(data, dict):
        data = data.get("alerts", [data])
    alerts = [_alert(item, file) for item in (data if isinstance(data, list) else [None])]
    if not alerts:
        raise click.UsageError(f"{file} holds no alert")
    return alerts


def _alert(item: Any, file: str) -> Alert:
    """An object with labels, or an object that is the labels."""
    labels = item.get("labels", item) if isinstance(item, dict) else None
    if not isinstance(item, dict) or not _texts(labels):
        raise click.UsageError(f"{file} holds no alert: an alert is an object whose labels are text")
    annotations = item.get("annotations", {})
    return Alert(labels, annotations if _texts(annotations) else {})


def _texts(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
