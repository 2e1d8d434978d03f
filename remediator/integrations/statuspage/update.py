"""``statuspage.update``: tell customers what is wrong, and that it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.clock import format_instant
from remediator.errors import PermanentError
from remediator.excerpt import shorten
from remediator.integrations._notice import Line, Text
from remediator.integrations.statuspage import _api
from remediator.integrations.statuspage.target import StatuspageTarget

_BODY = 25_000
_LINE = 5_000
_SAYS = {
    "investigating": "We are investigating reports of {symptom}.",
    "identified": "The cause has been identified and a fix is being carried out.",
    "monitoring": "A fix has been carried out, and we are watching the result.",
    "resolved": "The issue has been resolved. {title} is functioning normally.",
}


class Update(Action[StatuspageTarget]):
    """Opens, changes or resolves the one incident that the page shows about a service on our behalf.

    An incident that people opened is left alone. Where the page already says it, nothing is done.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"state", "severity"})

    service: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$", description="A service of the target.")
    state: Literal["investigating", "identified", "monitoring", "resolved"] = Field(
        default="investigating", description="How far it is, in the words of the page."
    )
    severity: Literal["none", "minor", "major", "critical"] = Field(
        default="minor", description="How bad it is for customers (`impact_override`)."
    )
    symptom: Line = Field(default="degraded service", description="What customers may notice, to finish the sentence.")
    impact: Line = Field(default="", description="The line `Impact:`; none if absent.")
    started: Line = Field(default="", description="The line `Started:`, such as `${{ handover.started }}`.")
    duration: Line = Field(default="", description="The line `Duration:`, when it is resolved.")
    cause: Line = Field(default="", description="The line `Root Cause:`, when it is resolved.")
    text: Text = Field(default="", description="The whole text, instead of the template.")

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """The service: it has one open incident of ours at most."""
        return f"service/{self.service}"

    def _says(self, title: str) -> str:
        """The text after the templates of the runbooks."""
        if self.text:
            return shorten(self.text, _BODY)
        says = _SAYS[self.state].format(symptom=shorten(self.symptom, _LINE), title=title)
        over = self.state == "resolved"
        lines = {"Started": self.started, "Impact": "" if over else self.impact}
        lines |= {"Duration": self.duration, "Root Cause": self.cause} if over else {}
        return "\n".join([says, *(f"{name}: {shorten(told, _LINE)}" for name, told in lines.items() if told)])

    def _incident(self, target: StatuspageTarget) -> dict[str, Any]:
        service = target.services.get(self.service)
        if service is None:
            names = ", ".join(target.services)
            message = f'target "{target.name}" has no service "{self.service}" (there are: {names})'
            raise PermanentError(message, reason="service")
        over = self.state == "resolved"
        return {
            "name": f"[{'RESOLVED' if over else self.state.upper()}] {service.title} Degradation",
            "status": self.state,
            "impact": self.severity,
            "body": self._says(service.title),
            "components": dict.fromkeys(service.components, "operational" if over else _COMPONENT[self.severity]),
        }

    async def diff(self, target: StatuspageTarget, context: ActionContext) -> Change:
        """What the page would say; empty where it says so already, or where nothing of ours is left to resolve."""
        wanted = self._incident(target)
        known = await _api.ours(target, self.service)
        name = target.services[self.service].title
        if known is None and self.state == "resolved":
            return Change(summary=f"nothing of ours is open about {name}", before={}, after={})
        summary = f"status page: {wanted['name']}"
        if known is None:
            return Change(summary=summary, before={}, after=wanted)
        before = {**wanted, "name": known.get("name"), "status": known.get("status"), "body": _newest(known)}
        before["impact"] = known.get("impact_override") or known.get("impact")
        return Change(summary=summary, before=before, after=wanted, volatile={"id": known["id"]})

    async def apply(self, target: StatuspageTarget, change: Change, context: ActionContext) -> Outcome:
        """Write it. Raises Unanswered (unknown) where the page may have taken it; who then looks again sees it."""
        wanted = self._incident(target)
        if dict(change.after) != wanted:
            raise PermanentError("the text is no longer the one that was shown", reason="changed")
        incident_id = change.volatile.get("id")
        incident = {
            "name": wanted["name"],
            "status": wanted["status"],
            "impact_override": wanted["impact"],
            "body": wanted["body"],
            "metadata": {
                "remediator": {
                    "service": self.service,
                    "run": context.run_id,
                    "at": format_instant(context.clock.now()),
                }
            },
        }
        if wanted["components"]:
            incident |= {"component_ids": list(wanted["components"]), "components": wanted["components"]}
        made = await _api.write(target, incident_id, incident, context.check_deadline)
        return Outcome(summary=f"the status page says: {wanted['name']}", data={"incident": made})

    def inverse(self, change: Change) -> Update | None:
        """What tells customers that it is over."""
        if self.state == "resolved" or change.empty:
            return None
        return Update(service=self.service, state="resolved", severity=self.severity, started=self.started)


_COMPONENT = {
    "none": "operational",
    "minor": "degraded_performance",
    "major": "partial_outage",
    "critical": "major_outage",
}
"""Severity of an incident → what its components are shown as."""


def _newest(incident: Mapping[str, Any]) -> Any:
    """The text that was told last; the page lists updates newest first."""
    updates = incident.get("incident_updates")
    if isinstance(updates, list) and updates and isinstance(updates[0], dict):
        return updates[0].get("body")
    return None
