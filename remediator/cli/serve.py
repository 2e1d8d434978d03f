"""``remediator serve``: run the service in the foreground."""

from __future__ import annotations

from collections.abc import Sequence

import click


@click.command()
@click.option("--config.file", "config_file", metavar="FILE", help="Settings (remediator.yaml).")
@click.option(
    "--rules.path", "rules_path", multiple=True, metavar="PATH",
    help="Rule files, directories or globs; may stand several times. Default: rules beside the settings.",
)
@click.option("--web.listen-address", "listen_address", metavar="HOST:PORT", help="Instead of the settings' address.")
@click.option("--web.config.file", "web_config_file", metavar="FILE", help="TLS, as Prometheus' web.config.file.")
@click.option("--web.enable-lifecycle", "enable_lifecycle", is_flag=True, help="Allow POST /-/reload.")
@click.option("--storage.url", "storage_url", metavar="URL", help="Instead of the settings' storage.url.")
@click.option(
    "--storage.migrate", "storage_migrate", type=bool, metavar="true|false",
    help="Whether to bring the schema up to date; false refuses to start until `remediator migrate` was run.",
)
@click.option(
    "--log.level", "log_level", type=click.Choice(("debug", "info", "warn", "error")), default="info",
    show_default=True, help="What is worth a line.",
)
@click.option(
    "--log.format", "log_format", type=click.Choice(("json", "logfmt", "console")),
    help="Default: console on a terminal, else json.",
)
@click.option(
    "--mode.max", "mode_max", type=click.Choice(("observe", "approve", "auto")),
    help="No rule may go further than this.",
)
@click.pass_context
def serve(
    context: click.Context,
    config_file: str | None,
    rules_path: Sequence[str],
    listen_address: str | None,
    web_config_file: str | None,
    enable_lifecycle: bool,
    storage_url: str | None,
    storage_migrate: bool | None,
    log_level: str,
    log_format: str | None,
    mode_max: str | None,
) -> None:
    """Run the service until SIGTERM or SIGINT; SIGHUP reloads settings and rules."""
    from remediator import app

    options = app.Options(
        config_file=config_file,
        rules_path=tuple(rules_path) or app.default_rules_path(config_file),
        listen_address=listen_address,
        web_config_file=web_config_file,
        enable_lifecycle=enable_lifecycle,
        storage_url=storage_url,
        storage_migrate=storage_migrate,
        log_level=log_level,
        log_format=log_format or "",
        mode_max=mode_max,
    )
    context.exit(app.serve(options))
