"""A temporary change behind a site, made as the engine makes it."""

from __future__ import annotations

import json

from remediator.audit import Entry
from remediator.run import Kind, Lock, Run, State
from tests.web.site import CHANGE, Site, delivery


async def changed(site: Site, number: int = 0) -> tuple[Run, Run]:
    """A run that has ended and made CHANGE for a while, and the way back of that."""
    store, now = site.service.store, site.service.clock.now()
    body = json.dumps(delivery(("HighQueueDepth", {"n": str(number)}))).encode()
    (run_id,) = (await site.service.intake.accept(body, "test")).runs
    (claim,) = await store.claim("worker", 30, 1)
    assert claim.run.id == run_id
    step = {
        "id": "grow", "uses": "http.post", "target": "minting-api", "state": "done", "remedy": 0, "revert": "b" * 26,
        "parameters": {"path": "/admin/workers"}, "change": {**CHANGE.as_json(), "digest": CHANGE.digest},
    }  # fmt: skip
    final = {"id": "resume", "uses": "wait", "target": "", "state": "waiting", "final": True}
    undo = {"id": "undo_grow", "uses": "http.post", "target": "minting-api", "state": "waiting", "undoes": 0}
    tried = {"name": "add workers", "state": "helped", "reason": "verified", "message": "it helped", "since": now}
    progress = {"steps": [step, final, undo], "remedies": [tried, {"name": "restart", "state": "waiting"}]}
    done = claim.run.move(State.SUCCEEDED, "verified", "the problem is gone", now=now, progress=progress)
    kept = {
        "step": 0, "id": "grow", "made_at": now, "made_by": "http.post", "change": step["change"], "uses": "http.post",
        "with": {}, "target": "minting-api", "settle": 900.0, "deadline": now + 3600, "timeout": "2m",
    }  # fmt: skip
    back = Run(
        id=f"{number:0>2}" + "b" * 24, rule=done.rule, rule_digest=done.rule_digest, incident_id=done.incident_id,
        state=State.HELD, reason="in_force", message="goes back by itself", mode="auto", epoch=0, version=1, owner="",
        lease_until=0.0, wake_at=now + 3600, created_at=now, updated_at=now, due_at=now + 3600,
        locks=(Lock("minting-api", "workers", 1),), progress={"change": kept}, kind=Kind.REVERT,
        about=f"{run_id}/0",
    )  # fmt: skip
    entry = Entry(event="run.succeeded", actor="remediator", run_id=run_id)
    return await store.save(done, entry, follow=[back]), back
