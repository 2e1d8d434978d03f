"""The settings of a target of kind ``apprise``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.clock import Duration
from remediator.target import Target


class Recipient(BaseModel):
    """Somebody or some place that Apprise can reach."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url_file: str = Field(description="File with the Apprise address (`tgram://…`, `msteams://…`): it is a secret.")


class AppriseTarget(Target):
    """Addresses of Apprise by name. Needs the extra: ``pip install 'remediator[apprise]'``."""

    lists: ClassVar[tuple[str, ...]] = ("recipients",)

    max_runs: int = Field(
        default=1000,
        ge=1,
        le=1000,
        description="How many runs may use one subject of this target at the same time; telling people needs no turn.",
    )
    recipients: dict[str, Recipient] = Field(
        min_length=1, description="The addresses by the name that rules use, each with its `url_file`."
    )
    timeout: Duration = Field(default=20.0, gt=0, le=600, description="How long sending may take.")
