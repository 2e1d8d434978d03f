"""Tests of the action pagerduty.resolve, against a stand-in that answers as PagerDuty documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.action import Effect
from remediator.errors import PermanentError
from remediator.integrations.pagerduty.resolve import Resolve
from remediator.integrations.pagerduty.target import PagerdutyTarget
from tests.integrations.pagerduty.stages import KEY, PagerDuty, settings
from tests.integrations.support import acting, wire


async def test_resolving_twice_is_resolving_once(tmp_path: Path) -> None:
    """What is not open any more, PagerDuty lets be; so an unknown outcome is sent again."""
    it = PagerDuty(open={"k": {}, "other": {}})
    action = Resolve(service="minting", dedup_key="k")
    async with wire(it.answer) as server:
        target = PagerdutyTarget.model_validate(settings(tmp_path, base_url=server.url))
        for _ in range(2):
            await action.apply(target, await action.diff(target, acting()), acting())
        await target.close()
    assert it.open == {"other": {}}
    assert it.events == [{"event_action": "resolve", "dedup_key": "k", "routing_key": KEY}] * 2
    assert action.effect is Effect.KEYED


async def test_another_alert_than_the_shown_one_is_not_resolved(tmp_path: Path) -> None:
    """What was approved is what is sent, or nothing."""
    it = PagerDuty()
    async with wire(it.answer) as server:
        target = PagerdutyTarget.model_validate(settings(tmp_path, base_url=server.url))
        change = await Resolve(service="minting", dedup_key="a").diff(target, acting())
        with pytest.raises(PermanentError, match="no longer"):
            await Resolve(service="minting", dedup_key="b").apply(target, change, acting())
        with pytest.raises(PermanentError, match="no service"):
            await Resolve(service="billing", dedup_key="a").diff(target, acting())
        await target.close()
    assert it.events == []
    with pytest.raises(ValidationError):
        Resolve(service="minting", dedup_key="two words")
