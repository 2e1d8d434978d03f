"""The stages of Apprise's action for the contract suite: the real library, which posts JSON to a server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.apprise.notify import Notify
from remediator.integrations.apprise.target import AppriseTarget
from tests.integrations.arrangements import Stage
from tests.integrations.support import wire


def one_recipient(directory: Path, url: str, timeout: str = "5s") -> AppriseTarget:
    """A target that reaches one address."""
    (directory / "apprise-url").write_text(url + "\n")
    return AppriseTarget.model_validate(
        {
            "recipients": {"team": {"url_file": str(directory / "apprise-url")}},
            "permit": {"actions": ["apprise.notify"], "recipients": ["team"]},
            "timeout": timeout,
        }
    )


@asynccontextmanager
async def apprise_notify(directory: Path) -> AsyncIterator[Stage]:
    """A message to a server that counts requests."""
    async with wire() as it:
        target = one_recipient(directory, f"json://127.0.0.1:{it.port}/")
        action = Notify(to="team", text="the queue is full")
        yield Stage(action=action, target=target, effects=lambda: len(it.received), converges=False)
        await target.close()


STAGES = {"apprise.notify": apprise_notify}
