"""The settings of a target of kind ``slack``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.clock import Duration
from remediator.integrations import _web


class SlackTarget(_web.WebTarget):
    """A Slack workspace, by way of one Slack app that was installed in it."""

    lists: ClassVar[tuple[str, ...]] = ("channels",)

    max_runs: int = Field(
        default=1000,
        ge=1,
        le=1000,
        description="How many runs may use one subject of this target at the same time; telling people needs no turn.",
    )
    base_url: str = Field(
        default="https://slack.com/api", max_length=2000, description="Where the Web API is; Slack's own if absent."
    )
    bearer_token_file: str = Field(
        description="File with the bot token of the Slack app (`xoxb-…`, scope `chat:write`); read for every message."
    )
    app_token_file: str | None = Field(
        default=None,
        description="File with the app-level token (`xapp-…`, scope `connections:write`): answers to questions come "
        "over Socket Mode, without an open port.",
    )
    signing_secret_file: str | None = Field(
        default=None,
        description="File with the app's signing secret: signs the buttons of questions, and proves that a click "
        "came from Slack.",
    )
    ping: Duration = Field(default=10.0, ge=1, le=60, description="How often the Socket Mode connection is tried.")
