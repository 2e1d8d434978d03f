"""The settings of a target of kind ``webhook``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.integrations import _web


class WebhookTarget(_web.WebTarget):
    """A receiver of news. Unlike a target of kind ``http`` it is told something and not asked to do something."""

    lists: ClassVar[tuple[str, ...]] = ("paths",)

    max_runs: int = Field(
        default=1000,
        ge=1,
        le=1000,
        description="How many runs may use one subject of this target at the same time; telling people needs no turn.",
    )
    signing_secret_file: str | None = Field(
        default=None,
        description="File with the secret that signs every body, so that the receiver knows whom it is from: "
        "`whsec_` and base64 of 24 to 64 bytes, or any text.",
    )
