"""The stages of Slack's actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.slack.post import Post
from remediator.integrations.slack.target import SlackTarget
from tests.integrations.arrangements import Stage
from tests.integrations.slack.workspace import secrets_in, workspace


@asynccontextmanager
async def slack_post(directory: Path) -> AsyncIterator[Stage]:
    """A message to a workspace that counts them."""
    permit = {"actions": ["slack.post"], "channels": ["#incidents"]}
    async with workspace() as it:
        target = SlackTarget(base_url=it.url, permit=permit, **secrets_in(directory))
        action = Post(channel="#incidents", text="the queue is full")
        yield Stage(action=action, target=target, effects=lambda: len(it.messages), converges=False)
        await target.close()


STAGES = {"slack.post": slack_post}
