"""The stages of Slack's actions for the contract suite."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from remediator.integrations.slack.post import Post
from remediator.integrations.slack.target import SlackTarget
from tests.integrations.arrangements import Stage
from tests.integrations.slack.workspace import secrets_in, workspace


def _shown(data: Any) -> Any:
    """Slack takes &amp; &lt; and &gt; for the three signs that mean something to it, but in plain text."""
    if isinstance(data, str):
        # <address|words> is a link; whatever else was written with the sign would not be escaped.
        pieces = [html.unescape(piece) for piece in re.split(r"<([^|>]*)\|([^>]*)>", data)]
        return pieces if len(pieces) > 1 else pieces[0]
    if isinstance(data, dict):
        if data.get("type") == "plain_text":
            return data
        return {key: _shown(value) for key, value in data.items()}
    return [_shown(each) for each in data] if isinstance(data, list) else data


@asynccontextmanager
async def slack_post(directory: Path) -> AsyncIterator[Stage]:
    """A message to a workspace that counts them."""
    permit = {"actions": ["slack.post"], "channels": ["#incidents"]}
    async with workspace() as it:
        target = SlackTarget(base_url=it.url, permit=permit, **secrets_in(directory))
        action = Post(channel="#incidents", text="the queue is full")

        def left() -> list[Any]:
            """The messages as Slack shows them, without what the workspace itself adds."""
            messages, it.messages[:] = list(it.messages), []
            shown = [{key: value for key, value in each.items() if key != "ts"} for each in messages]
            return [_shown(each) for each in shown]

        yield Stage(action=action, target=target, effects=lambda: len(it.messages), converges=False, left=left)
        await target.close()


STAGES = {"slack.post": slack_post}
