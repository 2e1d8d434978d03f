"""How tests carry an action out: through the JSON that a store keeps, with the same words for every lever."""

from __future__ import annotations

import json
from typing import Any

from remediator.action import Action, Change
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.support import HandClock, acting


async def shown(action: Action[Any], target: KubernetesTarget, clock: HandClock | None = None) -> Change:
    """The change, as it comes back from the store."""
    return Change.from_json(json.loads(json.dumps((await action.diff(target, acting(clock))).as_json())))


async def carried_out(action: Action[Any], target: KubernetesTarget, clock: HandClock | None = None) -> Change:
    """The change, made and verified."""
    change = await shown(action, target, clock)
    await action.apply(target, change, acting(clock))
    await action.verify(target, change, acting(clock))
    return change


def stored(action: Action[Any] | None) -> Action[Any]:
    """An inverse as another process finds it: made of its stored parameters."""
    assert action is not None
    parameters = action.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return type(action).model_validate(json.loads(json.dumps(parameters)))
