"""The stages of mail actions for the contract suite."""

from __future__ import annotations

import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from remediator.integrations.email.send import Send
from remediator.integrations.email.target import EmailTarget
from tests.integrations.arrangements import Stage
from tests.integrations.email.mailserver import Mail, mail_server


def _read(mail: Mail) -> list[Any]:
    message = email.message_from_bytes(mail.content, policy=email.policy.default)
    text = message.get_body()
    assert text is not None
    body = text.get_content().replace("\r\n", "\n").rstrip("\n")
    return [mail.sender, mail.recipients, sorted(message.keys()), message["To"], message["Subject"], body]


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

        def left() -> list[Any]:
            """The mails as any mail reader reads them."""
            mails, it.mails[:] = list(it.mails), []
            return [_read(mail) for mail in mails]

        yield Stage(action=action, target=target, effects=lambda: len(it.mails), converges=False, left=left)


STAGES = {"email.send": email_send}
