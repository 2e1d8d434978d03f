"""The whole service with people around it: a question in Slack, a click, a page, somebody takes over, and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from remediator.app import Application
from remediator.run import Kind, State
from tests.crash.scene import body, firing, resolved
from tests.integrations.pagerduty.stages import PagerDuty
from tests.integrations.pagerduty.stages import settings as pagerduty_settings
from tests.integrations.slack.workspace import Workspace, click, secrets_in, workspace
from tests.integrations.support import wire
from tests.test_app import Files, running

ALICE = "U0ALICE"


def _settings(directory: Path, slack: Workspace, pagerduty: str) -> dict[str, Any]:
    (directory / "alice").write_text("0f1d0c5b9a8e7f3d2c1b0a9f8e7d6c5b\n")
    channels = ["#incidents", "#on-call"]
    permit = {"actions": ["http.post"], "paths": ["*"]}
    ask = {
        "uses": "slack.post",
        "target": "slack",
        "with": {
            "channel": "#on-call",
            "title": "Approve? ${{ handover.title }}",
            "text": "${{ approval.summary }}",
            "ask": "${{ approval.ask }}",
        },
    }
    tell = {
        "uses": "slack.post",
        "target": "slack",
        "with": {
            "channel": "#incidents",
            "title": "${{ handover.title }}",
            "sections": "${{ handover.sections }}",
            "links": "${{ handover.links }}",
        },
        "on_resolve": {"title": "Over: ${{ handover.title }}", "text": "${{ reason }}", "sections": []},
    }
    page = {
        "if": 'severity == "SEV1"',
        "uses": "pagerduty.trigger",
        "target": "pagerduty",
        "with": {"service": "minting", "summary": "${{ handover.title }}"},
    }
    later = {**tell, "after": "1h"}
    return {
        "web": {"listen_address": "127.0.0.1:0", "external_url": "https://remediator.example.com"},
        "targets": {
            "app": {"kind": "http", "base_url": "http://127.0.0.1:9", "permit": permit},
            "slack": {
                "kind": "slack",
                "base_url": slack.url,
                "ping": "1s",
                "permit": {"actions": ["slack.post"], "channels": channels},
                **secrets_in(directory),
            },
            "pagerduty": {"kind": "pagerduty", "base_url": pagerduty, **pagerduty_settings(directory)},
        },
        "services": {"minting": {"severities": {"critical": "SEV1"}}},
        "escalations": {"approvals": [ask], "oncall": [tell, page, later]},
        "approvals": {"notify": "approvals"},
        "users": {"alice": {"role": "approver", "token_file": "alice", "slack_id": ALICE}},
    }


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.05)


async def _deliver(application: Application, alert: dict[str, Any]) -> tuple[str, ...]:
    alert |= {"annotations": {"summary": "the queue <!channel> is full", "description": "2950 wait"}}
    return (await application.intake.accept(json.dumps(body(alert)).encode(), "test")).runs


async def test_from_a_question_to_a_page_to_recovery(tmp_path: Path) -> None:
    """Asked in Slack, approved by a click; what fails calls people, one takes over, and all hear of the end."""
    paged = PagerDuty()
    async with workspace() as slack, wire(paged.answer) as pagerduty:
        files = Files(tmp_path)
        files.settings(**_settings(tmp_path, slack, pagerduty.url))
        files.rules("one", mode="approve", service="minting", escalate="oncall", runbook_url="https://rb.example.com/q")
        async with running(files) as application:
            store = application.store
            await asyncio.wait_for(slack.connected.wait(), 10)
            began = application.clock.now()
            (run_id,) = await _deliver(application, firing("one", began, severity="critical"))

            async def asked() -> bool:
                return len(slack.messages) == 1

            await _until(asked)
            question = slack.messages[0]
            assert question["text"].startswith("Approve? [SEV1] minting: the queue &lt;!channel&gt; is full")
            assert "POST http://127.0.0.1:9/one" in question["text"]
            await slack.send(click(question, ALICE, at=application.clock.now()))

            async def told() -> bool:
                return bool(paged.open)

            await _until(told)
            run = await store.run(run_id)
            assert run.state is State.FAILED
            (event,) = paged.open.values()
            assert event["payload"]["summary"] == "[SEV1] minting: the queue <!channel> is full"
            headers = {"Authorization": "Bearer 0f1d0c5b9a8e7f3d2c1b0a9f8e7d6c5b"}
            url = f"http://{application.address}/api/v1/runs/{run_id}"
            async with aiohttp.ClientSession(headers=headers) as session:
                async with session.post(f"{url}/acknowledge", json={"comment": "on it"}) as taken:
                    assert taken.status == 200, await taken.text()
                await _deliver(application, resolved("one", began, severity="critical"))
                (escalation, _) = await store.runs(kinds=(Kind.ESCALATION,), about=run_id)

                async def over() -> bool:
                    return (await store.run(escalation.id)).state is State.SUCCEEDED

                await _until(over)
                async with session.get(f"{url}/escalations") as shown:
                    first = (await shown.json())["items"][0]
            assert paged.open == {}
            assert [event["event_action"] for event in paged.events] == ["trigger", "resolve"]
            assert [call["state"] for call in first["calls"]] == ["sent", "sent", "stopped"]
            _, incident, last = slack.messages
            assert incident["channel"] == "#incidents"
            assert "Rule one gave up (connect)" in incident["text"]
            assert "<https://rb.example.com/q|Runbook>" in incident["blocks"][-1]["text"]["text"]
            assert last["text"] == "Over: [SEV1] minting: the queue &lt;!channel&gt; is full\nthe alert has resolved"
            assert first["acknowledged"]["actor"] == "user:alice"
            approval = await store.approval(run_id)
            assert approval is not None
            assert [vote["actor"] for vote in approval.votes] == ["user:alice"]
