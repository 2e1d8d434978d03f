"""``feedback``: an alert that our own action makes fire is no new problem, and never the start of a chain."""

from __future__ import annotations

from remediator.clock import format_instant
from remediator.guard import Guard, GuardContext, Verdict


class Feedback(Guard):
    """Holds a run whose alert another run's step announced (``causes``) until that time is over; denies a chain.

    Every rule has this guard; it need not be written. Only runs that were opened while the alert was expected are
    held. Once the time is over and the alert still fires, it is a problem of its own and the run goes on; but if
    the announcing run had itself answered an announced alert, actions have begun to cause each other, and it ends.
    """

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, hold with reason ``feedback`` until nothing announces the alert, or deny a chain of two."""
        alert = context.labels.get("alertname", "")
        if not alert:
            return Verdict.allow()
        for cause in await context.facts.announced(alert):
            if cause.depth > 0:
                message = f'{alert} follows from rule "{cause.rule}", which itself answered what another run had caused'
                return Verdict.deny("feedback", f"{message}: a chain, which a person must look at")
            if cause.until > context.now:
                until = f"{format_instant(cause.until)[:19]}Z"
                return Verdict.hold(
                    "feedback", f'{alert} is expected until {until}: rule "{cause.rule}" causes it', cause.until
                )
        return Verdict.allow()
