"""The settings of a target of kind ``statuspage``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.integrations import _web


class Service(BaseModel):
    """A service as customers know it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str = Field(min_length=1, max_length=100, description="What customers call it, such as Minting Service.")
    components: list[str] = Field(
        default_factory=list, max_length=50, description="Ids of the components of the page that it stands for."
    )


class StatuspageTarget(_web.WebTarget):
    """One page of Atlassian Statuspage, or of what speaks its API (version 1)."""

    lists: ClassVar[tuple[str, ...]] = ("services",)

    base_url: str = Field(
        default="https://api.statuspage.io", max_length=2000, description="Where the API is; Atlassian's if absent."
    )
    page: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The id of the page.")
    api_key_file: str = Field(description="File with the API key (`Authorization: OAuth …`); read for every request.")
    services: dict[str, Service] = Field(
        min_length=1, description="The services by the name that rules use: `title`, and `components` by their ids."
    )
