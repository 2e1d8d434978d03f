"""A site on which people are being called about a run."""

from __future__ import annotations

import json

from remediator.audit import Entry
from remediator.run import Kind, Run, State
from tests.web.site import Site, delivery

CALLS = [
    {"name": "on call", "uses": "slack.post", "target": "slack", "with": {"channel": "#on-call"}},
    {"name": "lead", "after": "15m", "uses": "pagerduty.trigger", "target": "pagerduty"},
]


async def called(site: Site) -> tuple[str, str]:
    """The ids of a new run that has failed, and of the escalation that follows from it: the first of two was told."""
    store, now = site.service.store, site.service.clock.now()
    receipt = await site.service.intake.accept(json.dumps(delivery("HighQueueDepth")).encode(), "test")
    (run_id,) = receipt.runs
    (claim,) = await store.claim("worker", 30, 1)
    run = claim.run.move(State.FAILED, "ineffective", "it did not help", now=now)
    sends = [
        {"state": "sent", "tries": 1, "next_at": now, "sent_at": now, "message": "Slack took the message to #on-call"},
        {"state": "waiting", "tries": 0, "next_at": now + 900},
        *[{"state": "waiting", "tries": 0, "next_at": now}] * 2,
    ]
    follow = Run(
        id="e" * 26,
        rule=run.rule,
        rule_digest=run.rule_digest,
        incident_id=run.incident_id,
        state=State.HELD,
        reason="escalating",
        message="next: lead",
        mode="auto",
        epoch=0,
        version=1,
        owner="",
        lease_until=0.0,
        wake_at=now + 900,
        created_at=now,
        updated_at=now,
        due_at=now,
        locks=(),
        progress={"policy": "oncall", "calls": CALLS, "sends": sends, "origin": {"run": run_id}},
        kind=Kind.ESCALATION,
        about=run_id,
    )
    await store.save(run, Entry(event="run.failed", actor="remediator", run_id=run_id), follow=[follow])
    return run_id, follow.id
