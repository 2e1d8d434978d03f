"""The stages of mail actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.email.send import Send
from remediator.integrations.email.target import EmailTarget
from tests.integrations.arrangements import Stage
from tests.integrations.email.mailserver import mail_server


@asynccontextmanager
async def email_send(directory: Path) -> AsyncIterator[Stage]:
    """A mail to a server that counts them."""
    async with mail_server() as it:
        target = EmailTarget.model_validate(
            {
                "host": "127.0.0.1",
                "port": it.port,
                "security": "none",
                "from": "remediator@example.com",
                "permit": {"actions": ["email.send"], "recipients": ["*@example.com"]},
            }
        )
        action = Send.model_validate({"to": "oncall@example.com", "title": "queue full", "text": "please look"})
        yield Stage(action=action, target=target, effects=lambda: len(it.mails), converges=False)


STAGES = {"email.send": email_send}
