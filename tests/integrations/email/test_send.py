"""Tests of the action email.send, against a small SMTP server on loopback."""

from __future__ import annotations

import json
import ssl
import subprocess
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.email.send import Send
from remediator.integrations.email.target import EmailTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.email.mailserver import PASSWORD, USER, MailServer, mail_server
from tests.integrations.support import HandClock, acting
from tests.servers import free_port

TO = "oncall@example.com"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(path) + ".key", "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, str(certificate) + ".key")
    return context


def _target(server: MailServer, **settings: Any) -> EmailTarget:
    given = {"host": "127.0.0.1", "port": server.port, "security": "none", "from": "remediator@example.com"}
    permit = {"actions": ["email.send"], "recipients": ["*@example.com"]}
    return EmailTarget.model_validate(given | {"timeout": "2s", "permit": permit} | settings)


async def _send(server: MailServer, parameters: dict[str, Any] | None = None, /, **settings: Any) -> Outcome:
    action = Send.model_validate({"to": TO, "title": "queue full", "text": "please look", **(parameters or {})})
    target = _target(server, **settings)
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    return await action.apply(target, change, acting())


def _read(content: bytes) -> EmailMessage:
    made = message_from_bytes(content, policy=policy.default)
    assert isinstance(made, EmailMessage)
    return made


async def test_the_mail_is_the_one_that_was_shown() -> None:
    """Sender, recipients, subject and text arrive; the Message-ID is the same on every attempt."""
    async with mail_server() as it:
        outcome = await _send(it, {"to": [TO, "lead@example.com"], "title": "Größe", "text": "1\n.\n..2\nüber"})
        await _send(it, reply_to="team@example.com")
    first, second = (_read(mail.content) for mail in it.mails)
    assert it.mails[0].recipients == [TO, "lead@example.com"]
    assert (first["From"], first["Subject"]) == ("remediator@example.com", "Größe")
    assert first.get_content().replace("\r\n", "\n") == "1\n.\n..2\nüber\n"
    assert first["Message-ID"] == second["Message-ID"] == "<run-1.step0@example.com>"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
    assert second["Reply-To"] == "team@example.com"
    assert outcome.data == {"said": "2.0.0 queued as 4711", "refused": {}}


async def test_no_text_becomes_a_header() -> None:
    """Whatever a label holds stays in subject and text: no line end of it begins a header or ends the mail."""
    async with mail_server() as it:
        target = _target(it)
        for payload in [*PAYLOADS, "a\r\nBcc: evil@example.com", "a\n\nbody", "\r\n.\r\nMAIL FROM:<x@y>"]:
            try:
                action = Send.model_validate({"to": TO, "title": f"x{payload}", "text": payload})
            except ValidationError:
                assert any(0xD800 <= ord(character) <= 0xDFFF for character in payload)
                continue
            await action.apply(target, await action.diff(target, acting()), acting())
            mail = _read(it.mails[-1].content)
            assert set(mail.keys()) == {
                *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
                *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
            }
            assert mail["To"] == TO
    assert len(it.mails) > 300
    assert all(mail.recipients == [TO] for mail in it.mails)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "a@b>\r\nRCPT TO:<x@y.z",
            "Bob <bob@example.com>",
            "a b@example.com",
            "@example.com",
            "a@",
            "",
            "ü@example.com",
        ),
        *("a@exämple.com", "a@example.com\n", '"a b"@example.com', "a@example.com,b@example.com"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """An address is plain, so that nothing else can stand in an SMTP command."""
    with pytest.raises(ValidationError):
        Send.model_validate({"to": ["ok@example.com", address], "title": "x", "text": "x"})


async def test_every_recipient_must_be_permitted() -> None:
    """Not only the first one: a list does not get anybody in who is not permitted."""
    async with mail_server() as it:
        with pytest.raises(PermanentError, match=r"evil@example.org") as caught:
            await _send(it, {"to": [TO, "evil@example.org"]})
    assert caught.value.reason == "not_permitted"
    assert it.commands == []


async def test_encryption_is_never_left_out(certificate: Path) -> None:
    """With starttls and tls everything that matters is encrypted; who offers no encryption gets nothing."""
    trusted: dict[str, Any] = {"host": "localhost", "ca_file": str(certificate)}
    async with mail_server(MailServer(tls=_tls(certificate))) as it:
        await _send(it, security="starttls", **trusted)
        assert it.mails[0].encrypted
        with pytest.raises(PermanentError, match="not trusted"):
            await _send(it, security="starttls", host="localhost")
    async with mail_server(MailServer(tls=_tls(certificate), implicit=True)) as it:
        await _send(it, security="tls", **trusted)
        assert it.mails[0].encrypted
        with pytest.raises(PermanentError, match="not trusted"):
            await _send(it, security="tls", host="localhost")
    async with mail_server() as it:
        with pytest.raises(PermanentError, match="offers no STARTTLS"):
            await _send(it, security="starttls", **trusted)
    assert [command.split()[0] for command in it.commands if command != "QUIT"] == ["EHLO"]


async def test_what_was_said_before_encryption_does_not_count(certificate: Path) -> None:
    """Answers that somebody slipped in before TLS began end the conversation."""
    async with mail_server(MailServer(tls=_tls(certificate), injects=b"250 evil\r\n")) as it:
        with pytest.raises(PermanentError, match="before TLS"):
            await _send(it, None, security="starttls", host="localhost", ca_file=str(certificate))
    assert it.mails == []


@pytest.mark.parametrize("auth", ["PLAIN LOGIN", "LOGIN"])
async def test_the_password_is_said_only_to_the_server(certificate: Path, tmp_path: Path, auth: str) -> None:
    """Logging in works both ways; a refusal repeats neither password nor its encoded form."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    settings: dict[str, Any] = {"security": "starttls", "host": "localhost", "ca_file": str(certificate)}
    settings |= {"username": USER, "password_file": str(secret)}
    async with mail_server(MailServer(tls=_tls(certificate), auth=auth)) as it:
        await _send(it, **settings)
        assert len(it.mails) == 1
        secret.write_text("wrong horse")
        with pytest.raises(PermanentError, match=f"does not let {USER} in") as caught:
            await _send(it, **settings)
        assert caught.value.reason == "smtp_535"
        assert "horse" not in str(caught.value)
    async with mail_server(MailServer(tls=_tls(certificate), auth="GSSAPI")) as it:
        with pytest.raises(PermanentError, match="neither AUTH PLAIN nor LOGIN"):
            await _send(it, **settings)
    with pytest.raises(ValidationError, match="never sent without encryption"):
        _target(it, **{**settings, "security": "none"})


@pytest.mark.parametrize(
    ("at", "reply", "error"),
    [
        ("", "554 no service", PermanentError),
        ("", "421 come back later", TemporaryError),
        ("", "HTTP/1.1 400 Bad Request", TemporaryError),
        ("", MailServer.DROP, TemporaryError),
        ("EHLO", "502 what?", PermanentError),
        ("MAIL", "451 greylisted", TemporaryError),
        ("MAIL", "550 go away", PermanentError),
        ("RCPT", "450 mailbox busy", TemporaryError),
        ("RCPT", "550 no such user", PermanentError),
        ("RCPT", MailServer.DROP, TemporaryError),
        ("DATA", "452 no space", TemporaryError),
        ("DATA", "554 no valid recipients", PermanentError),
        (".", "451 try again", TemporaryError),
        (".", "554 spam", PermanentError),
        (".", MailServer.DROP, Unanswered),
        (".", MailServer.HANG, Unanswered),
        ("MAIL", MailServer.HANG, TemporaryError),
    ],
)
async def test_every_reply_has_its_meaning(at: str, reply: str, error: type[Exception]) -> None:
    """4xx is later, 5xx is never; only after the final dot can a silence mean that it was taken."""
    async with mail_server(MailServer(says={at: reply})) as it:
        with pytest.raises(error):
            await _send(it, timeout="300ms")
    assert it.mails == []
    assert Send.effect is Effect.KEYED


async def test_a_mail_reaches_those_it_can_reach() -> None:
    """One address that does not exist does not keep the mail from the others, and is told."""
    async with mail_server(MailServer(refuse={"gone@example.com"})) as it:
        outcome = await _send(it, {"to": ["gone@example.com", TO]})
    assert it.mails[0].recipients == [TO]
    assert outcome.data["refused"] == {"gone@example.com": "550 5.1.1 no such user"}
    assert "but not for gone@example.com" in outcome.summary


async def test_nothing_leaves_after_the_licence_ran_out() -> None:
    """The deadline is asked right before the content, however long the greeting took."""

    class Slow(HandClock):
        def monotonic(self) -> float:
            self.at += 3600
            return self.at

    async with mail_server() as it:
        target, action = _target(it), Send.model_validate({"to": TO, "title": "x", "text": "x"})
        change = await action.diff(target, acting())
        with pytest.raises(TemporaryError, match="ran out"):
            await action.apply(target, change, acting(Slow()))
    assert it.mails == []
    assert "DATA" in it.commands


async def test_a_server_that_is_away_got_nothing() -> None:
    """No connection is a reason to try later; addresses that are never connected to are refused at once."""
    server = MailServer(port=free_port())
    with pytest.raises(TemporaryError, match="no connection"):
        await _send(server)
    with pytest.raises(ValidationError, match="metadata address"):
        _target(server, host="169.254.169.254")


async def test_another_mail_than_the_shown_one_is_not_sent() -> None:
    """What was approved is what is sent, or nothing; long texts are cut and say so."""
    async with mail_server() as it:
        target = _target(it)
        change = await Send.model_validate({"to": TO, "title": "t" * 900, "text": "a" * 200_000}).diff(target, acting())
        assert change.after["subject"].endswith("characters left out]")
        assert change.after["text"].endswith("characters left out]")
        with pytest.raises(PermanentError, match="no longer"):
            await Send.model_validate({"to": TO, "title": "x", "text": "b"}).apply(target, change, acting())
    assert it.mails == []
