"""``pagerduty.resolve``: call off an alert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError
from remediator.integrations.pagerduty import _events
from remediator.integrations.pagerduty.target import PagerdutyTarget


class Resolve(Action[PagerdutyTarget]):
    """Resolves the alert that is open under a ``dedup_key``; where none is, PagerDuty does nothing."""

    effect: ClassVar[Effect] = Effect.KEYED

    service: str = Field(pattern=_events.SERVICE, description="A service of the target.")
    dedup_key: str = Field(pattern=_events.DEDUP_KEY, description="The key that the alert was triggered with.")

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """The service with the key of the alert."""
        return f"{self.service}/{self.dedup_key}"

    async def diff(self, target: PagerdutyTarget, context: ActionContext) -> Change:
        """The event that would be sent. The Events API cannot be asked what is open, so it is never empty."""
        _events.known(target, self.service)
        after = {"service": self.service, "dedup_key": self.dedup_key}
        return Change(summary=f"resolve {self.dedup_key} of {self.service}", before={}, after=after)

    async def apply(self, target: PagerdutyTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) where PagerDuty may have taken it; resolving twice is resolving once."""
        _events.known(target, self.service)
        if dict(change.after) != {"service": self.service, "dedup_key": self.dedup_key}:
            raise PermanentError("the event is no longer the one that was shown", reason="changed")
        event = {"event_action": "resolve", "dedup_key": self.dedup_key}
        said = await _events.send(target, self.service, event, context)
        return Outcome(summary=f"resolved at {self.service}: {said}", data={"dedup_key": self.dedup_key})
