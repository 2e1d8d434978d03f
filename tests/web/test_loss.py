"""Proves that only an administrator's word, with a reason, makes a store trusted again that history is missing from."""

from __future__ import annotations

import json
from pathlib import Path

from tests.web.site import Site, doubted

PATH = "/api/v1/audit/accept-loss"


async def test_a_loss_is_accepted_with_a_reason(site: Site, tmp_path: Path) -> None:
    """The answer is the new checkpoint, the audit keeps who, why and what was lost, and the doubt is over."""
    file = await doubted(site, tmp_path)
    status, found = await site.post(PATH, json={"reason": "put back the backup of Monday"})
    assert (status, found["records"]) == (200, 3)
    assert json.loads(file.read_text())["head"] == found["head"]
    (record,) = await site.service.store.audit(event="audit.loss_accepted")
    assert record.actor == "user:anonymous"
    detail = json.loads(record.body)["detail"]
    assert (detail["reason"], detail["checkpoint"]["records"]) == ("put back the backup of Monday", 5000)
    assert not site.service.keeper.doubt
    assert (await site.post(PATH, json={"reason": "again"}))[0] == 409


async def test_without_a_reason_or_a_loss_nothing_is_accepted(site: Site, tmp_path: Path) -> None:
    """No reason is 400 and no loss is 409; neither leaves a trace."""
    assert (await site.post(PATH, json={"reason": "for safety"}))[0] == 409
    await doubted(site, tmp_path)
    assert (await site.post(PATH, json={"reason": ""}))[0] == 400
    assert (await site.post(PATH, json={}))[0] == 400
    assert "audit.loss_accepted" not in await site.events()
