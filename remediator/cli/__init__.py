"""The command line: one group, and a file for each command that is imported only when it is called."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from remediator.errors import RemediatorError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("serve", "Run the service."),
    "demo": ("demo", "Show the whole loop on this machine, without any set-up."),
    "check": ("check", "Check rules or settings without doing anything."),
    "match": ("match", "Which rules answer an alert, and why the others do not."),
    "why": ("why", "Why a run did what it did, or what became of an alert."),
    "run": ("run", "List, look at, approve, reject and cancel runs."),
    "change": ("change", "List temporary changes, put them back now, make them permanent."),
    "rule": ("rule", "List, look at, pause and resume rules."),
    "pause": ("pause", "Stop everything, one rule or one target: the kill switch."),
    "resume": ("pause", "End a pause."),
    "guard": ("guard", "What guards hold: open breakers and storms, and their release."),
    "audit": ("audit", "List, verify and export the audit log."),
    "migrate": ("migrate", "Bring the schema of a store up to date."),
    "storage": ("storage", "Move everything that a store keeps."),
    "schema": ("schema", "The JSON Schema of rules or settings, for editors."),
    "actions": ("actions", "What rules can do."),
    "money": ("money", "The ledger of transfers, and its comparison with the chain."),
    "guards": ("actions", "What can hold or deny a run."),
    "rbac": ("rbac", "The least Kubernetes Roles that the rules need."),
    "version": ("version", "Which version this is."),
}
"""Command → module below ``remediator.cli`` and its line in ``--help``; the click command has the command's name."""


class Lazy(click.Group):
    """A group that knows its commands by name and imports one when it is called.

    Exit status: 0 fine, 1 the answer is no or the input is wrong, 2 wrong usage, 3 a bug.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"remediator.cli.{COMMANDS[cmd_name][0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with the nearest name for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from remediator.problem import nearest

            ctx.fail(f'there is no command "{args[0]}"; {nearest(args[0], COMMANDS) or "--help lists them"}')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the one place of the command line that catches everything."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt):
            raise
        except RemediatorError as error:
            from remediator.problem import ProblemsError

            if isinstance(error, ProblemsError):  # A report as a compiler's: it says "error" itself.
                click.echo(str(error), err=True)
                ctx.exit(1)
            raise click.ClickException(str(error)) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # `remediator … | head`: click ends quietly.
            _report_bug(error)
            ctx.exit(3)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a report and exit status 3.
            _report_bug(error)
            ctx.exit(3)


def _report_bug(error: BaseException) -> None:
    """Keep what is known about a bug in a file that only the caller can read, and say where in one line."""
    import platform
    import tempfile
    import traceback

    from remediator import __version__
    from remediator.redact import redact_text

    report = (
        f"remediator {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {sys.argv[1:]}\n\n{''.join(traceback.format_exception(error))}"
    )
    with tempfile.NamedTemporaryFile("w", prefix="remediator-bug-", suffix=".txt", delete=False) as file:
        file.write(redact_text(report))
    what = redact_text(f"{type(error).__name__}: {error}".partition("\n")[0])
    click.echo(f"bug: {what}; this is our mistake. Please report it with {file.name}", err=True)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Remediator: alerts become guarded, verified and audited actions.

    Exit status: 0 fine, 1 the answer is no or the input is wrong, 2 wrong usage, 3 a bug. Completion:
    eval "$(_REMEDIATOR_COMPLETE=bash_source remediator)", or zsh_source, or fish_source.
    """
