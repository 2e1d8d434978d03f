"""``remediator match``: which rules would answer an alert, and matcher by matcher why or why not."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import click

from remediator.catalogue import Catalogue
from remediator.clock import format_duration
from remediator.expression import CONDITION, Expression, ExpressionError
from remediator.matcher import Matcher
from remediator.problem import ProblemsError, nearest, printable
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
class _Answer:
    match: Match
    condition: bool | None
    """What the condition gives; None where there is none, or where it cannot be told."""
    error: str


def _explained(book: Rulebook, alert: Alert, settings: Settings | None) -> list[_Answer]:
    """Rules that answer to the alert's name, each with its condition."""
    out = []
    for found in book.explain(alert.labels):
        if not found.alert:
            continue
        condition, error = None, ""
        if found.rule.when.condition is not None:
            try:
                condition = _condition(found, alert, settings)
            except ExpressionError as problem:
                error = str(problem)
        out.append(_Answer(found, condition, error))
    return out


def _condition(found: Match, alert: Alert, settings: Settings | None) -> bool:
    severity = alert.labels.get("severity", "")
    severities = settings.severities.get(found.rule.service, {}) if settings is not None else {}
    one = {"status": "firing", "labels": alert.labels, "annotations": alert.annotations, "starts_at": 0.0}
    variables = {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "alerts": [one],
        "count": 1,
        "severity": severities.get(severity, severity),
    }
    return Expression.compile(found.rule.when.condition or "true", CONDITION).evaluate(variables)


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
        "condition_holds": answer.condition,
        "condition_error": answer.error or None,
        "guards": _guards(answer.match, settings),
    }


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
        if rule.when.condition is not None:
            mark = "?" if answer.error else _tick(bool(answer.condition))
            why = f"  (cannot be told, which is a no: {answer.error})" if answer.error else ""
            click.echo(printable(f"      {mark} condition: {' '.join(rule.when.condition.split())}{why}"))
        if rule.when.for_:
            click.echo(f"      · acts once the alert has been firing for {format_duration(rule.when.for_)}")
        for entry in _guards(answer.match, settings):
            name, value = next(iter(entry.items()))
            click.echo(f"      · guard {name}: {value if isinstance(value, str) else json.dumps(value)}")


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
