"""``rpc.switch``: use the endpoint of a pool that is well, for as long as the first one is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.composite import Composite, Written
from remediator.errors import InputError
from remediator.integrations.rpc._question import Question
from remediator.rule import USES

_SETTLED = "alert.resolved && probes.{id}.preferred.well"


class Setting(BaseModel):
    """The step that tells the service, as any step would be written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    uses: str = Field(pattern=USES, description="The action, such as `kubernetes.set_env`.")
    target: str = Field(min_length=1, description="Its target.")
    with_: dict[str, Any] = Field(alias="with", description="Its parameters, with `${{ probes.<id>.value }}`.")


class Switch(Question, Composite):
    """Asks every endpoint of the pool, and sets the one that is well where the service reads it, until the first is
    well again.

    Stands for the probe `rpc.healthiest` and for the step under `set`, both under the id of this step.
    """

    literal: ClassVar[frozenset[str]] = frozenset({"set", "samples", "every", "max_lag"})

    set: Setting = Field(description="The step that tells the service: `uses`, `target`, `with`.")

    def write_out(self, step: Mapping[str, Any]) -> Written:
        """The probe and the step, with a lease that waits for the first endpoint. Raises InputError."""
        lease = step.get("lease")
        if not isinstance(lease, Mapping):
            raise InputError("a switch is temporary; write lease: {settle: 15m, at_most: 12h}")
        looks = {key: value for key, value in step["with"].items() if key != "set"}
        told = step["with"]["set"]
        return Written(
            probe={"uses": "rpc.healthiest", "target": step.get("target", ""), "with": looks, "timeout": "1m"},
            step={
                **{key: value for key, value in step.items() if key != "id"},
                "uses": told["uses"],
                "target": told["target"],
                "with": told["with"],
                "lease": {"until": _SETTLED.format(id=step["id"]), **lease},
            },
            probe_from={("with",): ("with",), ("target",): ("target",)},
            step_from={
                ("uses",): ("with", "set", "uses"),
                ("target",): ("with", "set", "target"),
                ("with",): ("with", "set", "with"),
            },
        )
