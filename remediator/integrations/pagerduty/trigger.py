"""``pagerduty.trigger``: page the people who are on call for a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator

from remediator.action import Action, ActionContext, Change, Effect, Outcome, canonical_json
from remediator.errors import PermanentError
from remediator.excerpt import shorten
from remediator.integrations._notice import Line, Links
from remediator.integrations.pagerduty import _events
from remediator.integrations.pagerduty.resolve import Resolve
from remediator.integrations.pagerduty.target import PagerdutyTarget

_SUMMARY = 1024
_WORD = 1000
_DETAILS = 400_000


class Trigger(Action[PagerdutyTarget]):
    """Opens an alert in PagerDuty, or adds to the one that is open under the same ``dedup_key``.

    Without a ``dedup_key`` the run's own is used, so that repeating the event never pages twice.
    """

    effect: ClassVar[Effect] = Effect.KEYED

    service: str = Field(pattern=_events.SERVICE, description="A service of the target.")
    summary: Line = Field(min_length=1, description="What is wrong, in one line; cut to 1,024 characters.")
    severity: Literal["critical", "error", "warning", "info"] = Field(
        default="critical", description="How bad it is, in PagerDuty's words."
    )
    source: Line = Field(default="remediator", min_length=1, description="What is in trouble: a host, a cluster.")
    component: Line = Field(default="", description="The part of it that is.")
    group: Line = Field(default="", description="What it belongs to.")
    details: dict[str, JsonValue] = Field(default_factory=dict, description="More about it, as JSON.")
    links: Links = Field(default_factory=dict, max_length=50, description="Name → address of pages to go to.")
    dedup_key: str | None = Field(
        default=None, pattern=_events.DEDUP_KEY, description="What makes events one alert; the run if absent."
    )

    @field_validator("details")
    @classmethod
    def _json(cls, details: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            canonical_json(details).encode()
        except (ValueError, RecursionError):
            raise ValueError("details must be valid JSON: no NaN, no infinity, valid Unicode") from None
        return details

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """The service with the key of the alert."""
        return f"{self.service}/{self.dedup_key or ''}"

    def _event(self, context: ActionContext) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "summary": shorten(self.summary, _SUMMARY),
            "severity": self.severity,
            "source": shorten(self.source, _WORD),
            "custom_details": self._bounded(),
        }
        payload |= {name: shorten(text, _WORD) for name in ("component", "group") if (text := getattr(self, name))}
        return {
            "service": self.service,
            "dedup_key": self.dedup_key or f"remediator-{context.run_id}",
            "payload": payload,
            "links": [{"href": url, "text": name} for name, url in self.links.items()],
        }

    def _bounded(self) -> dict[str, JsonValue]:
        """The details, or as much of their text as PagerDuty takes: a page that is too long must not be lost."""
        if len(written := canonical_json(self.details)) * 4 <= _DETAILS or len(written.encode()) <= _DETAILS:
            return self.details
        return {"shortened": shorten(written, _DETAILS // 4)}

    async def diff(self, target: PagerdutyTarget, context: ActionContext) -> Change:
        """The event that would be sent. The Events API cannot be asked what is open, so it is never empty."""
        _events.known(target, self.service)
        event = self._event(context)
        return Change(summary=f"page {self.service}: {event['payload']['summary']}", before={}, after=event)

    async def apply(self, target: PagerdutyTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) where PagerDuty may have taken it; sent again, it pages nobody twice."""
        _events.known(target, self.service)
        if dict(change.after) != self._event(context):
            raise PermanentError("the event is no longer the one that was shown", reason="changed")
        event = {name: value for name, value in change.after.items() if name != "service"}
        said = await _events.send(target, self.service, {**event, "event_action": "trigger"}, context)
        return Outcome(summary=f"paged {self.service}: {said}", data={"dedup_key": change.after["dedup_key"]})

    def inverse(self, change: Change) -> Resolve:
        """Calls the alert off by its key."""
        return Resolve(service=change.after["service"], dedup_key=change.after["dedup_key"])
