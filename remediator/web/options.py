"""Makes the options of the HTTP face from the operator's settings and the flags of the command line."""

from __future__ import annotations

from remediator.rule import Mode
from remediator.settings import Settings
from remediator.web.service import Role, User, WebOptions


def web_options(settings: Settings, *, enable_lifecycle: bool = False, mode_max: Mode = Mode.AUTO) -> WebOptions:
    """The options that follow from ``settings``; ``mode_max`` is the flag's, and the lower of the two counts."""
    return WebOptions(
        tokens_file=settings.intake.tokens_file or "",
        users=tuple(User(name, Role(user.role), user.token_file) for name, user in settings.users.items()),
        external_url=settings.web.external_url,
        mode_max=settings.mode_max.at_most(mode_max),
        enable_lifecycle=enable_lifecycle,
        max_body=settings.intake.max_body,
    )
