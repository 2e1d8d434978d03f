"""``slack.post``: a message to a channel, and a question with buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Outcome, canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.excerpt import shorten
from remediator.integrations._body import parse_json
from remediator.integrations._client import Answer, Unanswered
from remediator.integrations._notice import Line, Links, Text, refusal
from remediator.integrations._secret import read_secret
from remediator.integrations.slack import _buttons, _mrkdwn
from remediator.integrations.slack.target import SlackTarget

# Errors of chat.postMessage that pass by themselves, and those after which Slack says it cannot tell.
_FOR_NOW = frozenset(
    {"ratelimited", "rate_limited", "message_limit_exceeded", "service_unavailable", "team_added_to_org"}
    | {"request_timeout", "org_login_required"}
)
_UNCLEAR = frozenset({"fatal_error", "internal_error"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Section(_Part):
    """A piece of a message with a title of its own."""

    title: Line = Field(description="What the piece is about.")
    text: Text = Field(description="What it says.")


class Ask(_Part):
    """The question that the buttons under a message answer."""

    run: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The run that asks.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="What was shown; the answer counts for nothing else.")
    expires_at: float = Field(description="When the question closes (Unix seconds).")


class Post(Action[SlackTarget]):
    """Sends one message to a channel or a person. Whatever it holds is shown as text and calls nobody.

    Who is to be called stands in ``mention``, which takes no placeholder. Long texts are cut, and say so.
    """

    effect: ClassVar[Effect] = Effect.KEYED
    literal: ClassVar[frozenset[str]] = frozenset({"mention"})

    channel: str = Field(
        pattern=r"^(#[\w-]{1,80}|[CGDUW][A-Z0-9]{2,20})$",
        description="The channel as `#name` or by its id (`C…`), or the id of a person (`U…`).",
    )
    text: Text = Field(default="", description="What the message says, as plain text.")
    title: Line = Field(default="", description="A headline above it.")
    sections: list[Section] = Field(
        default_factory=list,
        max_length=200,
        description="Pieces with a `title` and a `text`: `${{ handover.sections }}`.",
    )
    links: Links = Field(default_factory=dict, max_length=50, description="Name → address of pages to go to.")
    mention: list[Annotated[str, Field(pattern=r"^(here|channel|everyone|[UWS][A-Z0-9]{2,20})$")]] = Field(
        default_factory=list,
        max_length=20,
        description="Who is called: `here`, `channel`, or the ids of people (`U…`) and of user groups (`S…`).",
    )
    thread: str | None = Field(
        default=None, pattern=r"^[0-9]{1,12}\.[0-9]{1,9}$", description="The `ts` of the message to answer to."
    )
    ask: Ask | None = Field(
        default=None, description="A question to put buttons under the message for: `${{ approval.ask }}`."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Post:
        if not (self.text or self.title or self.sections):
            raise ValueError("a message needs a text, a title or sections")
        return self

    def needs(self) -> Mapping[str, str]:
        """The channel must be permitted."""
        return {"channels": self.channel}

    def subject(self) -> str:
        """The channel: messages to one place keep their order."""
        return f"channel/{self.channel}"

    def _content(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_defaults=True)

    async def diff(self, target: SlackTarget, context: ActionContext) -> Change:
        """The message that would be sent; it is never empty, because a channel is not searched for it."""
        said = shorten(self.title or self.text or self.sections[0].text, 120)
        return Change(summary=f"Slack message to {self.channel}: {said}", before={}, after=self._content())

    def _message(self, target: SlackTarget, context: ActionContext) -> bytes:
        called = _mrkdwn.mentions(self.mention)
        sections = [section.model_dump() for section in self.sections]
        made = _mrkdwn.blocks(self.title, self.text, sections, self.links, called)
        if self.ask is not None:
            if target.signing_secret_file is None:
                raise PermanentError("a question with buttons needs signing_secret_file on the target", reason="secret")
            secret = read_secret(target.signing_secret_file, "signing_secret_file")
            made.append(_buttons.block(secret, self.ask.model_dump()))
        # The text is what notifications and screen readers show; the blocks are what a window shows.
        words = [self.title, self.text, *(f"{section.title}\n{section.text}" for section in self.sections)]
        text = _mrkdwn.escaped("\n".join(filter(None, words)), _mrkdwn.TEXT - len(called) - 1)
        message = {
            "channel": self.channel,
            "text": f"{called} {text}".strip(),
            "blocks": made,
            "mrkdwn": False,
            "parse": "none",
            "link_names": False,
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": {"event_type": "remediator_message", "event_payload": {"key": context.key}},
        }
        if self.thread is not None:
            message["thread_ts"] = self.thread
        return canonical_json(message).encode()

    async def apply(self, target: SlackTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) where Slack may have taken it and did not say so."""
        if dict(change.after) != self._content():
            raise PermanentError("the message is no longer the one that was shown", reason="changed")
        answer = await target.send(
            "POST",
            "/chat.postMessage",
            headers={"Content-Type": "application/json; charset=utf-8"},
            body=self._message(target, context),
            check=context.check_deadline,
        )
        data = _read(answer)
        return Outcome(
            summary=f"Slack took the message to {self.channel}",
            data={"channel": str(data.get("channel", "")), "ts": str(data.get("ts", ""))},
        )


def _read(answer: Answer) -> Mapping[str, Any]:
    """What Slack said. Its refusals come with status 200 and ``ok: false`` (Slack, "Evaluating responses")."""
    if answer.status != 200:
        raise refusal(f"Slack answered {answer.status}", answer)
    try:
        data = parse_json(answer.body)
    except ValueError:
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("ok"), bool):
        raise Unanswered("Slack's answer cannot be read, so it is not known whether the message was taken")
    if data["ok"]:
        return data
    word = str(data.get("error", "unknown_error"))[:100]
    said = f"Slack refused the message: {word}"
    if word in _UNCLEAR:
        raise Unanswered(f"{said}, after which some of it may have been done")
    if word in _FOR_NOW:
        raise TemporaryError(said, reason=word)
    raise PermanentError(said, reason=word if word.replace("_", "").isalnum() else "refused")
