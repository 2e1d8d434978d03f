"""``inhibition``: nothing is done about one alert while another one fires that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from remediator.clock import Duration
from remediator.guard import Guard, GuardContext, Verdict
from remediator.guards._matching import checked


class Inhibition(Guard):
    """Holds a run while an alert fires that matches ``while`` and has the same values of the ``equal`` labels.

    The other alert must be delivered to Remediator too; a rule need not answer it. An alert that nobody said is over
    still fires, so a lost end holds until the run is too old. Alerts of the run's own problem do not count.
    """

    shorthand: ClassVar[str | None] = "while"

    while_: list[str] = Field(
        alias="while", min_length=1, max_length=20,
        description="Alertmanager matchers of the other alert; all must match: `[alertname=\"DatabaseDown\"]`.",
    )  # fmt: skip
    equal: list[str] = Field(
        default_factory=list, description="Labels that both alerts must have alike, such as `cluster`."
    )
    settle: Duration = Field(
        default=0.0, description="Wait until the other alert has been firing this long; a short one holds nothing."
    )

    @field_validator("while_", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("while_")
    @classmethod
    def _matchers(cls, texts: list[str]) -> list[str]:
        return checked(texts)

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``inhibition`` and look again soon."""
        for alert in await context.facts.firing(self.while_):
            alike = all(alert.labels.get(name, "") == context.labels.get(name, "") for name in self.equal)
            if alike and alert.since + self.settle <= context.now:
                name = alert.labels.get("alertname", "another alert")
                return Verdict.hold("inhibition", f"{name} fires, which explains this alert")
        return Verdict.allow()

    def watches(self) -> Sequence[str]:
        """The other alert."""
        return (", ".join(self.while_),)
