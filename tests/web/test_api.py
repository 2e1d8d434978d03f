"""Proves that the API shows what the store holds, changes what people may change, and answers every mistake clearly."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from remediator.audit import AuditRecord, Entry, verify
from remediator.facts import GuardState
from remediator.rule import Mode
from remediator.web import runs, shapes
from tests.web.site import DIGEST, TOKENS, Site, StartSite, asked, delivery, users


def _conforms(shape: Any, value: Any) -> None:
    """Fails unless ``value`` is what the OpenAPI document promises, without further keys."""
    TypeAdapter(shape).validate_json(json.dumps(value), strict=True, extra="forbid")


async def _run(site: Site, alert: str = "HighQueueDepth", **labels: str) -> str:
    """The id of a new run."""
    _, answer = await site.post("/api/v1/alertmanager", json=delivery((alert, labels)))
    run_id: str = answer["runs"][0]
    return run_id


async def test_a_run_is_shown_with_everything_that_led_to_it(site: Site) -> None:
    """Labels, evidence, verdicts, the change, and the question with its digest are in one answer, as promised."""
    run_id = await asked(site)
    status, run = await site.get(f"/api/v1/runs/{run_id}")
    assert status == 200
    _conforms(runs.RunWhole, run)
    assert (run["id"], run["rule"], run["state"], run["reason"], run["mode"]) == (
        run_id, "minting-queue-backlog", "held", "approval", "approve",
    )  # fmt: skip
    assert run["incident"]["labels"] == {"alertname": "HighQueueDepth"}
    assert run["incident"]["starts_at"] == "2026-11-20T21:36:54.618000Z"
    assert run["evidence"]["deps"]["value"] == {"status": 200}
    assert run["steps"][0]["action"] == "http.post"
    assert run["steps"][0]["change"]["after"] == {"workers": 5}
    assert run["approval"]["digest"] == DIGEST
    assert (await site.get("/api/v1/runs/@latest"))[1]["id"] == run_id


async def test_runs_are_listed_newest_first_in_pages(site: Site) -> None:
    """Following ``next`` gives every run once, newest first, and ends with null."""
    made = [await _run(site, n=str(number)) for number in range(5)]
    seen, cursor = [], ""
    while True:
        status, page = await site.get(f"/api/v1/runs?limit=2{cursor}")
        assert status == 200
        _conforms(shapes.RunList, page)
        seen += [run["id"] for run in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == made[::-1]


async def test_runs_are_filtered(site: Site) -> None:
    """By state (several), by rule and by incident; a filter that fits nothing gives an empty list."""
    held, other = await asked(site), await _run(site, "Other")

    async def found(query: str) -> list[str]:
        return [run["id"] for run in (await site.get(f"/api/v1/runs?{query}"))[1]["items"]]

    assert await found("state=held") == [held]
    assert await found("state=held&state=queued") == [other, held]
    assert await found("rule=watch-only") == [other]
    incident = (await site.get(f"/api/v1/runs/{held}"))[1]["incident"]["id"]
    assert await found(f"incident={incident}") == [held]
    assert await found("rule=no-such-rule") == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/v1/runs?limit=0", "limit"),
        ("/api/v1/runs?limit=1001", "limit"),
        ("/api/v1/runs?limit=ten", "limit"),
        ("/api/v1/runs?limit=%C2%B2", "limit"),
        ("/api/v1/runs?state=done", "state"),
        ("/api/v1/runs?rul=x", "rul"),
        ("/api/v1/runs?rule=a&rule=b", "rule"),
        ("/api/v1/runs?rule=%00", "rule"),
        ("/api/v1/runs?cursor=xyz", "cursor"),
        ("/api/v1/runs?cursor=cnVuOidPUg", "cursor"),
        ("/api/v1/audit?cursor=YXVkaXQtYXNjOjk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5&order=asc", "cursor"),
        ("/api/v1/audit?order=up", "order"),
        ("/api/v1/audit/export?format=xml", "format"),
        ("/api/v1/incidents?open=yes", "open"),
        ("/api/v1/rules?limit=-1", "limit"),
    ],
)
async def test_a_bad_parameter_is_named(site: Site, path: str, named: str) -> None:
    """A mistyped filter never answers with everything: it is 400 and says which parameter and what it takes."""
    status, answer = await site.get(path)
    assert status == 400
    assert answer["type"] == "urn:remediator:problem:parameter"
    assert named in answer["detail"]


async def test_approving_takes_the_digest_that_was_shown(site: Site) -> None:
    """With the shown digest the run is approved and the worker woken; with another one it is 409 and nothing is."""
    run_id = await asked(site)
    path = f"/api/v1/runs/{run_id}/approve"
    status, answer = await site.post(path, json={"digest": "b" * 64})
    assert (status, answer["type"]) == (409, "urn:remediator:problem:conflict")
    assert DIGEST in answer["detail"]
    woken = site.service.woken
    status, run = await site.post(path, json={"digest": DIGEST, "comment": "looks right"})
    assert (status, run["approval"]["state"]) == (200, "granted")
    assert run["approval"]["votes"][0]["actor"] == "user:anonymous"
    assert site.service.woken == woken + 1
    assert (await site.post(path, json={"digest": DIGEST}))[0] == 409


async def test_trying_again_what_was_denied(site: Site) -> None:
    """With a reason the run is queued and the worker woken; it shows how it ended before; twice is a conflict."""
    run_id = await asked(site)
    await site.post(f"/api/v1/runs/{run_id}/reject", json={"digest": DIGEST, "comment": "not now"})
    path = f"/api/v1/runs/{run_id}/retry"
    assert (await site.post(path, json={}))[0] == 400
    assert (await site.get(path))[0] == 405
    woken = site.service.woken
    status, run = await site.post(path, json={"reason": "now"})
    assert (status, run["state"], run["reason"]) == (200, "queued", "retried")
    _conforms(runs.RunWhole, run)
    assert [how["reason"] for how in run["before"]] == ["rejected"]
    assert site.service.woken == woken + 1
    assert (await site.post(path, json={"reason": "now"}))[0] == 409


async def test_looking_never_approves(site: Site) -> None:
    """A link preview that fetches the address of approval changes nothing: GET is 405."""
    run_id = await asked(site)
    assert (await site.get(f"/api/v1/runs/{run_id}/approve?digest={DIGEST}"))[0] == 405
    assert (await site.get(f"/api/v1/runs/{run_id}"))[1]["approval"]["state"] == "pending"


async def test_two_people_are_two_people(site_with: StartSite, tmp_path: Path) -> None:
    """Where two must say yes, the same person cannot say it twice."""
    site = await site_with(users=users(tmp_path))
    run_id = await asked(site, needed=2)
    path = f"/api/v1/runs/{run_id}/approve"
    assert (await site.post(path, TOKENS["approver"], json={"digest": DIGEST}))[0] == 200
    assert (await site.post(path, TOKENS["approver"], json={"digest": DIGEST}))[0] == 409
    status, run = await site.post(path, TOKENS["admin"], json={"digest": DIGEST})
    assert (status, run["approval"]["state"]) == (200, "granted")


async def test_rejecting_ends_the_run(site: Site) -> None:
    """One no is enough: the run is denied, and the audit keeps who and why."""
    run_id = await asked(site)
    status, run = await site.post(f"/api/v1/runs/{run_id}/reject", json={"digest": DIGEST, "comment": "not today"})
    assert (status, run["state"], run["reason"]) == (200, "denied", "rejected")
    assert "not today" in run["message"]
    assert (await site.events())[-1] == "approval.rejected"


async def test_what_happened_is_only_asked_of_a_run_that_needs_a_person(site: Site) -> None:
    """A finding about any other run is 409 and changes nothing; a word that is none is refused by name."""
    run_id = await _run(site)
    wish = {"comment": "seen in its log", "found": "happened"}
    status, problem = await site.post(f"/api/v1/runs/{run_id}/cancel", json=wish)
    assert status == 409 and "needs_human" in problem["detail"]
    status, problem = await site.post(f"/api/v1/runs/{run_id}/cancel", json={**wish, "found": "perhaps"})
    assert status == 400 and "found" in str(problem)
    assert (await site.get(f"/api/v1/runs/{run_id}"))[1]["state"] == "queued"


async def test_a_run_that_has_not_begun_can_be_cancelled_once(site: Site) -> None:
    """Cancelling a queued run works, cancelling it again is 409, and an unknown run is 404."""
    run_id = await _run(site)
    status, run = await site.post(f"/api/v1/runs/{run_id}/cancel", json={"comment": "by hand"})
    assert (status, run["state"]) == (200, "cancelled")
    assert (await site.post(f"/api/v1/runs/{run_id}/cancel"))[0] == 409
    assert (await site.post("/api/v1/runs/nobody/cancel"))[0] == 404


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"digest":"short"}', b'{"digest":1}', b'{"digest":"' + b"a" * 64 + b'","force":true}'],
)
async def test_a_bad_request_body_changes_nothing(site: Site, body: bytes) -> None:
    """Broken JSON, a missing or malformed digest and unknown keys are 400, and the question stays open."""
    run_id = await asked(site)
    headers = {"Content-Type": "application/json"}
    status, answer = await site.post(f"/api/v1/runs/{run_id}/approve", data=body, headers=headers)
    assert (status, answer["type"]) == (400, "urn:remediator:problem:body")
    assert answer["detail"]
    assert (await site.get(f"/api/v1/runs/{run_id}"))[1]["approval"]["state"] == "pending"


async def test_a_request_body_must_be_json_of_bounded_size(site: Site) -> None:
    """A form of another site is 415, and 100 kB of comment are 413."""
    headers = {"Content-Type": "text/plain"}
    assert (await site.post("/api/v1/pause", data=b'{"reason":"x"}', headers=headers))[0] == 415
    assert (await site.post("/api/v1/pause", json={"reason": "x" * 100_000}))[0] == 413
    assert (await site.post("/api/v1/pause", json={"reason": "x" * 3000}))[0] == 400


async def test_rules_are_shown_as_they_were_written(site: Site) -> None:
    """Each rule tells its mode, digest, file and whether it is paused; one rule also its whole text."""
    status, page = await site.get("/api/v1/rules")
    _conforms(shapes.RuleList, page)
    assert [rule["name"] for rule in page["items"]] == ["minting-queue-backlog", "watch-only"]
    status, rule = await site.get("/api/v1/rules/minting-queue-backlog")
    assert status == 200
    _conforms(shapes.RuleView, rule)
    assert (rule["mode"], rule["file"], rule["alerts"]) == ("approve", "rules.yaml", ["HighQueueDepth"])
    assert rule["rule"]["steps"][0]["uses"] == "http.post"
    assert (await site.get("/api/v1/rules/none"))[0] == 404


async def test_rules_come_in_pages(site: Site) -> None:
    """With one rule a page, ``next`` leads to the other one and then to the end."""
    _, first = await site.get("/api/v1/rules?limit=1")
    _, second = await site.get(f"/api/v1/rules?limit=1&cursor={first['next']}")
    assert [page["items"][0]["name"] for page in (first, second)] == ["minting-queue-backlog", "watch-only"]
    assert second["next"] is None


async def test_the_highest_mode_of_the_service_is_shown(site_with: StartSite) -> None:
    """Where the service may only observe, every rule says so, whatever it wants itself."""
    site = await site_with(mode_max=Mode.OBSERVE)
    _, rule = await site.get("/api/v1/rules/minting-queue-backlog")
    assert (rule["mode"], rule["effective_mode"]) == ("approve", "observe")


async def test_a_rule_is_paused_and_resumed(site: Site) -> None:
    """The pause of a rule is shown with it, ends when resumed, wakes the worker, and both are in the audit."""
    path = "/api/v1/rules/watch-only"
    status, pauses = await site.post(f"{path}/pause", json={"reason": "release", "for": "2h"})
    assert status == 200
    _conforms(shapes.PauseList, pauses)
    paused = (await site.get(path))[1]["paused"]
    assert (paused["scope"], paused["reason"]) == ("rule:watch-only", "release")
    assert paused["until"] > paused["since"]
    assert not pauses["paused"]
    assert (await site.post(f"{path}/resume", json={"reason": "done"}))[0] == 200
    assert (await site.get(path))[1]["paused"] is None
    assert site.service.woken == 1
    assert (await site.events())[-2:] == ["pause.engaged", "pause.released"]
    assert (await site.post(f"{path}/resume"))[0] == 404


async def test_the_kill_switch(site: Site) -> None:
    """One request stops everything, says so in the list and the figures, and one request releases it."""
    status, pauses = await site.post("/api/v1/pause", json={"reason": "incident 42"})
    assert (status, pauses["paused"], pauses["items"][0]["scope"]) == (200, True, "global")
    assert b"remediator_paused 1.0" in site.service.metrics.render()
    assert (await site.get("/api/v1/pause"))[1] == pauses
    assert (await site.post("/api/v1/resume", json={"reason": "over"}))[1]["paused"] is False
    assert b"remediator_paused 0.0" in site.service.metrics.render()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"reason": ""}, 400),
        ({"reason": "x", "for": "0s"}, 400),
        ({"reason": "x", "for": "-1h"}, 400),
        ({"reason": "x", "for": 60}, 400),
        ({"reason": "x", "for": "2 hours"}, 400),
        ({"reason": "x", "scope": "everything"}, 400),
        ({"reason": "x", "scope": "rule:watch-onyl"}, 404),
        ({"reason": "x", "scope": "target:minting"}, 404),
    ],
)
async def test_a_kill_switch_with_a_mistake_is_not_believed_to_be_engaged(
    site: Site, body: dict[str, Any], status: int
) -> None:
    """No reason, no time, or a name that does not exist: an error, and nothing is paused."""
    assert (await site.post("/api/v1/pause", json=body))[0] == status
    assert not await site.service.store.pauses()


async def test_a_target_can_be_paused(site: Site) -> None:
    """A target of the settings can be paused by name."""
    _, pauses = await site.post("/api/v1/pause", json={"reason": "x", "scope": "target:minting-api"})
    assert [pause["scope"] for pause in pauses["items"]] == ["target:minting-api"]
    assert pauses["paused"] is False


async def test_incidents_are_listed(site: Site) -> None:
    """Open and ended problems with their alerts; ``open=true`` leaves out those that have ended."""
    await _run(site, namespace="a")
    await _run(site, namespace="b")
    await site.post("/api/v1/alertmanager", json=delivery(("HighQueueDepth", {"namespace": "a"}), status="resolved"))
    _, page = await site.get("/api/v1/incidents")
    _conforms(shapes.IncidentList, page)
    assert [incident["labels"]["namespace"] for incident in page["items"]] == ["b", "a"]
    assert page["items"][1]["ends_at"] == "2026-11-20T22:00:00.000000Z"
    assert page["items"][1]["alerts"][0]["status"] == "resolved"
    _, page = await site.get("/api/v1/incidents?open=true&limit=1")
    assert [incident["labels"]["namespace"] for incident in page["items"]] == ["b"]
    assert page["next"] is None


async def test_the_audit_is_listed_in_both_orders_and_filtered(site: Site) -> None:
    """Newest first by default, oldest first on request, by run and event, in pages that miss nothing."""
    run_id = await asked(site)
    for order in ("asc", "desc"):
        seen, cursor = [], ""
        while True:
            _, page = await site.get(f"/api/v1/audit?order={order}&limit=2{cursor}")
            _conforms(shapes.RecordList, page)
            seen += [record["sequence"] for record in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == sorted(seen, reverse=order == "desc")
        assert len(seen) == len(await site.events())
    _, page = await site.get(f"/api/v1/audit?run={run_id}&event=approval.requested")
    assert [record["event"] for record in page["items"]] == ["approval.requested"]


async def test_the_chain_is_verified(site: Site) -> None:
    """A whole chain says so with its length and head; a changed record is found by number."""
    await _run(site)
    _, found = await site.get("/api/v1/audit/verify")
    _conforms(shapes.Verified, found)
    records = len(await site.events())
    assert (found["ok"], found["records"]) == (True, records)
    store: Any = site.service.store
    store._writer.connection.execute("DROP TRIGGER IF EXISTS audit_no_update")
    store._writer.connection.execute("UPDATE audit SET actor = 'user:nobody' WHERE sequence = 2")
    _, found = await site.get("/api/v1/audit/verify")
    assert (found["ok"], found["at"], found["records"]) == (False, 2, 1)


async def test_long_chains_are_verified_and_exported_whole(site: Site) -> None:
    """More records than one batch holds are still one chain."""
    await site.service.store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(2500)))
    _, found = await site.get("/api/v1/audit/verify")
    assert (found["ok"], found["records"]) == (True, 2500)
    _, text = await site.get("/api/v1/audit/export")
    assert len(text.splitlines()) == 2501


async def test_an_export_proves_itself_and_is_recorded(site: Site) -> None:
    """The exported lines verify without the server, and the last one is the export itself."""
    await _run(site)
    status, text = await site.get("/api/v1/audit/export?format=jsonl")
    assert status == 200
    records = [AuditRecord(**json.loads(line)) for line in text.splitlines()]
    assert verify(records).ok
    assert (records[-1].event, records[-1].actor) == ("audit.exported", "user:anonymous")
    _, text = await site.get("/api/v1/audit/export?format=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["event"] for row in rows][:-1] == [record.event for record in records]
    assert tuple(rows[0]) == AuditRecord._fields


async def test_reloading_is_off_unless_asked_for(site_with: StartSite) -> None:
    """Without --web.enable-lifecycle it is 403; with it a broken set answers with its report."""
    site = await site_with()
    assert (await site.post("/-/reload"))[0] == 403
    site = await site_with(enable_lifecycle=True)
    assert (await site.post("/-/reload"))[0] == 200
    assert site.service.reloads == ["user:anonymous"]
    site.service.broken_rules = 'rules.yaml:5:9: error: no guard is named "cooldwn" [guard/unknown]'
    status, answer = await site.post("/-/reload")
    assert status == 400
    assert site.service.broken_rules in answer["detail"]


async def test_health_and_readiness(site: Site) -> None:
    """Healthy while the loop turns; ready tells part by part; both stay open to probes."""
    assert await site.get("/-/healthy") == (200, "Remediator is Healthy.\n")
    assert await site.get("/-/ready") == (200, "Remediator is Ready.\n")
    assert await site.get("/-/ready?verbose") == (200, {"ready": True, "store": "ok"})
    site.service.draining = True
    assert (await site.get("/-/healthy"))[0] == 200
    expected = {"ready": False, "store": "ok", "draining": True}
    assert await site.get("/-/ready", headers={"Accept": "application/json"}) == (503, expected)


async def test_without_a_store_reading_says_so(site: Site) -> None:
    """Health and figures stay; what needs the store is 503 with a problem."""
    await site.service.store.close()
    assert (await site.get("/-/healthy"))[0] == 200
    assert (await site.get("/metrics"))[0] == 200
    status, answer = await site.get("/api/v1/runs")
    assert (status, answer["type"]) == (503, "urn:remediator:problem:unavailable")


async def test_a_bug_is_500_without_details(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The client learns nothing from a bug but that it happened; the log has it all."""

    def broken() -> Any:
        raise RuntimeError("secret detail")

    site.service.ready = broken  # type: ignore[method-assign]  # a service with a bug
    status, answer = await site.get("/-/ready")
    assert (status, answer) == (
        500, {"type": "urn:remediator:problem:bug", "title": "Internal Server Error", "status": 500},
    )  # fmt: skip
    assert "secret detail" in capsys.readouterr().out


async def test_unknown_paths_and_methods_are_problems(site: Site) -> None:
    """404 and 405 look like every other problem, and 405 names the methods."""
    for path in ("/nope", "/api/v1/nope", "/api/v1/runs/a/b/c", "/api/v1/runs/"):
        status, answer = await site.get(path)
        assert (status, answer["type"]) == (404, "urn:remediator:problem:not-found")
    async with site.session.delete(site.url + "/api/v1/runs") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert answer.content_type == "application/problem+json"


async def test_every_answer_carries_the_headers_of_a_careful_server(site: Site) -> None:
    """Pages, data, figures and problems are not framed, sniffed, cached or told to other sites."""
    for path in ("/", "/api/v1/runs", "/metrics", "/nope", "/-/ready"):
        async with site.session.get(site.url + path) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Server"] == "remediator"


async def test_the_first_page_leads_on(site: Site) -> None:
    """A person who opens the address finds the version and the ways on."""
    status, page = await site.get("/")
    assert status == 200
    assert "/metrics" in page
    assert "/api/v1/openapi.json" in page


async def test_hostile_labels_are_data(site: Site) -> None:
    """Markup, quotes and control characters in a label come out as they went in, as JSON and never as a page."""
    hostile = "<script>alert(1)</script>'\"\u202e\n"
    run_id = await _run(site, evil=hostile)
    async with site.session.get(f"{site.url}/api/v1/runs/{run_id}") as answer:
        assert answer.content_type == "application/json"
        assert (await answer.json())["incident"]["labels"]["evil"] == hostile


async def test_secrets_in_labels_are_not_shown(site: Site) -> None:
    """A token that somebody put into a label is masked where people look."""
    run_id = await _run(site, auth="Bearer abcdefgh12345678")
    _, run = await site.get(f"/api/v1/runs/{run_id}")
    assert run["incident"]["labels"]["auth"] == "Bearer [redacted]"


async def test_what_guards_hold_is_shown_and_released(site: Site) -> None:
    """A storm is listed, counted in the metrics, and released once with a reason; then there is nothing to release."""
    path, now = "/api/v1/guards", site.service.clock.now()
    assert (await site.get(path))[1] == {"items": [], "next": None}
    await site.service.store.open_guard(GuardState("storm", "global", True, now, now + 60, "12 new", "remediator"))
    status, states = await site.get(path)
    assert status == 200
    _conforms(shapes.GuardStateList, states)
    assert [(item["guard"], item["scope"], item["why"]) for item in states["items"]] == [("storm", "global", "12 new")]
    assert b'remediator_guards_open{guard="storm"} 1.0' in site.service.metrics.render()
    assert (await site.post(f"{path}/storm/release", json={}))[0] == 400
    assert (await site.post(f"{path}/storm/release", json={"reason": "x", "scope": "everything"}))[0] == 400
    assert (await site.post(f"{path}/breaker/release", json={"reason": "x"}))[0] == 404
    assert (await site.post(f"{path}/storm/release", json={"reason": "looked"}))[1]["items"] == []
    assert b'remediator_guards_open{guard="storm"} 0.0' in site.service.metrics.render()
    assert (await site.post(f"{path}/storm/release", json={"reason": "looked"}))[0] == 404
    assert site.service.woken == 1
    assert (await site.events())[-2:] == ["guard.opened", "guard.released"]
