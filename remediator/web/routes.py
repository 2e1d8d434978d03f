"""Every route in one table: who may use it, what it takes and gives; the server and the OpenAPI page are made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from remediator.web import audit, changes, escalations, events, guards, money, rules, runs, shapes, slack, status, why
from remediator.web.call import Call
from remediator.web.service import Role

WEBHOOK = "/api/v1/alertmanager"
OPENAPI = "/api/v1/openapi.json"


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. ``role`` None means open to everybody; ``gives`` is a shape or a media type."""

    method: str
    path: str
    name: str
    handle: Callable[[Call], Awaitable[web.StreamResponse]]
    gives: Any
    role: Role | None = Role.VIEWER
    takes: type[BaseModel] | None = None
    query: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        """The first sentence of the handler's docstring."""
        return (self.handle.__doc__ or "").strip().partition("\n")[0]


_API = "/api/v1"
ROUTES: tuple[Route, ...] = (
    Route("GET", f"{_API}/runs", "listRuns", runs.list_runs, shapes.RunList, query=runs.RUN_FILTERS, refusals=(400,)),
    Route("GET", f"{_API}/runs/{{id}}", "getRun", runs.get_run, runs.RunWhole, refusals=(404,)),
    Route(
        "POST", f"{_API}/runs/{{id}}/approve", "approveRun", runs.approve_run, runs.RunWhole,
        role=Role.APPROVER, takes=shapes.Vote, refusals=(400, 404, 409),
    ),
    Route(
        "POST", f"{_API}/runs/{{id}}/reject", "rejectRun", runs.reject_run, runs.RunWhole,
        role=Role.APPROVER, takes=shapes.Vote, refusals=(400, 404, 409),
    ),
    Route(
        "POST", f"{_API}/runs/{{id}}/cancel", "cancelRun", runs.cancel_run, runs.RunWhole,
        role=Role.OPERATOR, takes=shapes.Cancel, refusals=(400, 404, 409),
    ),
    Route(
        "POST", f"{_API}/runs/{{id}}/retry", "retryRun", runs.retry_run, runs.RunWhole,
        role=Role.OPERATOR, takes=shapes.Retry, refusals=(400, 404, 409),
    ),
    Route(
        "GET", f"{_API}/runs/{{id}}/escalations", "listEscalations", escalations.list_escalations,
        escalations.EscalationList, refusals=(404,),
    ),
    Route(
        "POST", f"{_API}/runs/{{id}}/acknowledge", "acknowledgeRun", escalations.acknowledge_run,
        escalations.EscalationList, role=Role.OPERATOR, takes=escalations.Acknowledge, refusals=(400, 404, 409),
    ),
    Route("GET", f"{_API}/runs/{{id}}/why", "whyRun", why.why_run, why.RunStory, refusals=(404,)),
    Route("GET", f"{_API}/why", "whyAlert", why.why_alert, why.AlertStory, query=why.ALERT_FILTERS, refusals=(400,)),
    Route(
        "GET", f"{_API}/changes", "listChanges", changes.list_changes, changes.ChangeList,
        query=changes.CHANGE_FILTERS, refusals=(400,),
    ),
    Route("GET", f"{_API}/changes/{{id}}", "getChange", changes.get_change, changes.ChangeView, refusals=(404,)),
    Route(
        "POST", f"{_API}/changes/{{id}}/revert", "revertChange", changes.revert_change, changes.ChangeView,
        role=Role.OPERATOR, takes=changes.ChangeWish, refusals=(400, 404, 409),
    ),
    Route(
        "POST", f"{_API}/changes/{{id}}/keep", "keepChange", changes.keep_change, changes.ChangeView,
        role=Role.OPERATOR, takes=changes.ChangeWish, refusals=(400, 404, 409),
    ),
    Route(
        "POST", f"{_API}/slack", "receiveClick", slack.receive_click, "text/plain", role=None,
        refusals=(400, 401, 413),
    ),
    Route(
        "GET", f"{_API}/incidents", "listIncidents", runs.list_incidents, shapes.IncidentList,
        query=runs.INCIDENT_FILTERS, refusals=(400,),
    ),
    Route(
        "GET", f"{_API}/rules", "listRules", rules.list_rules, shapes.RuleList,
        query=rules.RULE_FILTERS, refusals=(400,),
    ),
    Route("GET", f"{_API}/rules/{{name}}", "getRule", rules.get_rule, shapes.RuleView, refusals=(404,)),
    Route(
        "POST", f"{_API}/rules/{{name}}/pause", "pauseRule", rules.pause_rule, shapes.PauseList,
        role=Role.OPERATOR, takes=shapes.PauseRequest, refusals=(400, 404),
    ),
    Route(
        "POST", f"{_API}/rules/{{name}}/resume", "resumeRule", rules.resume_rule, shapes.PauseList,
        role=Role.OPERATOR, takes=shapes.ResumeRequest, refusals=(400, 404),
    ),
    Route(
        "GET", f"{_API}/money/transfers", "listTransfers", money.list_transfers, money.TransferList,
        query=money.TRANSFER_FILTERS, refusals=(400,),
    ),
    Route(
        "GET", f"{_API}/money/transfers/{{id}}", "getTransfer", money.get_transfer, money.TransferView, refusals=(404,)
    ),
    Route(
        "POST", f"{_API}/money/reconcile", "reconcileMoney", money.reconcile, money.BooksList,
        role=Role.OPERATOR, refusals=(400,),
    ),
    Route("GET", f"{_API}/pause", "listPauses", rules.list_pauses, shapes.PauseList),
    Route(
        "POST", f"{_API}/pause", "pause", rules.pause, shapes.PauseList,
        role=Role.OPERATOR, takes=shapes.ScopedPause, refusals=(400, 404),
    ),
    Route(
        "POST", f"{_API}/resume", "resume", rules.resume, shapes.PauseList,
        role=Role.OPERATOR, takes=shapes.ScopedResume, refusals=(400, 404),
    ),
    Route("GET", f"{_API}/guards", "listGuardStates", guards.list_states, shapes.GuardStateList),
    Route(
        "POST", f"{_API}/guards/{{name}}/release", "releaseGuard", guards.release, shapes.GuardStateList,
        role=Role.OPERATOR, takes=shapes.GuardRelease, refusals=(400, 404),
    ),
    Route(
        "GET", f"{_API}/audit", "listAudit", audit.list_records, shapes.RecordList,
        query=audit.AUDIT_FILTERS, refusals=(400,),
    ),
    Route(
        "GET", f"{_API}/audit/verify", "verifyAudit", audit.verify_records, shapes.Verified,
        query=audit.VERIFY_PARAMETERS, refusals=(400,),
    ),
    Route(
        "GET", f"{_API}/audit/export", "exportAudit", audit.export_records, "application/jsonl",
        query=("format",), refusals=(400,),
    ),
    Route(
        "POST", f"{_API}/audit/accept-loss", "acceptLoss", audit.accept_loss, shapes.Trusted,
        role=Role.ADMIN, takes=shapes.AcceptLoss, refusals=(400, 409),
    ),
    Route(
        "GET", f"{_API}/events", "watch", events.stream_events, events.EVENT_STREAM,
        query=events.EVENT_FILTERS, refusals=(400,),
    ),
    Route("GET", "/-/healthy", "healthy", status.healthy, "text/plain", role=None),
    Route("GET", "/-/ready", "ready", status.ready, "text/plain", role=None, query=("verbose",), refusals=(503,)),
    Route("POST", "/-/reload", "reload", status.reload, "text/plain", role=Role.ADMIN, refusals=(400,)),
    Route("GET", "/metrics", "metrics", status.metrics, "text/plain", role=None),
    Route("GET", "/", "index", status.index, "text/html", role=None),
)  # fmt: skip
"""Every route but the webhook and the OpenAPI page itself."""
