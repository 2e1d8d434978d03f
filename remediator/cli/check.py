"""``remediator check``: are these rules, are these settings right? The answer of a compiler."""

from __future__ import annotations

from collections.abc import Sequence

import click

from remediator.catalogue import Catalogue
from remediator.checks import CheckContext
from remediator.problem import RENDERERS, Problem, ProblemsError, Severity
from remediator.rulebook import load_rulebook
from remediator.settings import Settings, load_settings

_RANKS = {Severity.ERROR: 2, Severity.WARNING: 1, Severity.INFO: 0}

_output = click.option(
    "-o",
    "--output",
    type=click.Choice(list(RENDERERS)),
    default="text",
    show_default=True,
    help="How to print problems; sarif and github are for code review.",
)
_fail_on = click.option(
    "--fail-on",
    type=click.Choice([severity.value for severity in Severity]),
    default=Severity.ERROR.value,
    show_default=True,
    help="The least severity that makes the exit status 1.",
)


@click.group()
def check() -> None:
    """Check rules or settings without doing anything.

    Reports go to standard output, a summary to standard error. The exit status is 0 if all is well and 1 if not.
    """


@check.command()
@click.argument("paths", nargs=-1)
@click.option("--config.file", "config_file", help="Settings, to check targets, permissions and services as well.")
@_fail_on
@_output
def rules(paths: Sequence[str], config_file: str | None, fail_on: str, output: str) -> None:
    """Check rule files.

    PATHS are files, directories (their *.yaml and *.yml files) or globs; ./rules if there are none.
    """
    catalogue = Catalogue()
    problems: list[Problem] = []
    settings: Settings | None = None
    try:
        settings = load_settings(config_file, catalogue) if config_file is not None else None
    except ProblemsError as error:
        problems += error.problems
    count = 0
    try:
        targets, policies = (settings.targets, settings.escalations) if settings is not None else (None, None)
        book = load_rulebook(paths or ["rules"], catalogue, targets, policies)
        context = CheckContext(
            services=settings.services if settings is not None else None,
            guards=list(settings.guards) if settings is not None else [],
        )
        problems += [*book.warnings, *catalogue.lint(book, context)]
        count = len(book)
        if not count:
            where = ", ".join(paths or ["rules"])
            problems.append(_nothing(where))
    except ProblemsError as error:
        problems += error.problems
    _report(problems, Severity(fail_on), output, f"{count} {'rule' if count == 1 else 'rules'}")


@check.command()
@click.argument("file")
@_fail_on
@_output
def config(file: str, fail_on: str, output: str) -> None:
    """Check a settings file."""
    problems: list[Problem] = []
    try:
        problems += load_settings(file, Catalogue()).warnings
    except ProblemsError as error:
        problems += error.problems
    _report(problems, Severity(fail_on), output, "settings")


def _nothing(where: str) -> Problem:
    return Problem(
        file=where,
        line=0,
        column=0,
        severity=Severity.ERROR,
        id="file/empty",
        message="there is no rule here",
        hint="name the files or directories that hold the rules",
    )


def _report(problems: list[Problem], fail_on: Severity, output: str, what: str) -> None:
    ordered = sorted(problems, key=lambda problem: problem.order)
    if ordered or output in ("json", "sarif"):
        click.echo(RENDERERS[output](ordered))
    counts = {severity: sum(p.severity is severity for p in ordered) for severity in Severity}
    told = [f"{n} {severity}{'' if n == 1 else 's'}" for severity, n in counts.items() if n]
    failed = any(_RANKS[p.severity] >= _RANKS[fail_on] for p in ordered)
    if counts[Severity.ERROR]:
        click.echo(f"refused: {', '.join(told)}", err=True)
    else:
        click.echo(f"{what} checked: {', '.join(told) or 'no problems'}", err=True)
    if failed:
        raise SystemExit(1)
