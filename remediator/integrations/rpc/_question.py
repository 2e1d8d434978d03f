"""How the endpoints of a pool are asked: the parameters that the probe and the switch have in common."""

from __future__ import annotations

from pydantic import BaseModel, Field

from remediator.clock import Duration


class Question(BaseModel):
    """What is in use, and how thoroughly each endpoint is asked."""

    current: str | None = Field(
        default=None, max_length=2000, description="Name or value of what is in use; the pool's first if absent."
    )
    samples: int = Field(default=3, ge=1, le=20, description="How often each endpoint is asked.")
    every: Duration = Field(default=1.0, ge=0, le=30, description="How long to wait between two questions.")
    max_lag: int = Field(default=50, ge=0, le=100_000, description="Slots that an endpoint may be behind.")
