"""The settings of a target of kind ``pagerduty``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.integrations import _web


class Service(BaseModel):
    """One service of PagerDuty, which decides who is paged."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    routing_key_file: str = Field(description="File with the integration key of the service (Events API v2).")


class PagerdutyTarget(_web.WebTarget):
    """The Events API of PagerDuty, and the services that rules may page."""

    lists: ClassVar[tuple[str, ...]] = ("services",)

    max_runs: int = Field(
        default=1000,
        ge=1,
        le=1000,
        description="How many runs may use one subject of this target at the same time; telling people needs no turn.",
    )
    base_url: str = Field(
        default="https://events.pagerduty.com",
        max_length=2000,
        description="Where the Events API is; `https://events.eu.pagerduty.com` for accounts in Europe.",
    )
    services: dict[str, Service] = Field(
        min_length=1, description="The services by the name that rules use, each with its `routing_key_file`."
    )
