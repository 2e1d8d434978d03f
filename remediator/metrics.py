"""The figures about Remediator itself: one registry per service, every name and label of docs/reference/metrics.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from remediator import __version__

# A `_created` sample beside every counter doubles what Prometheus stores and nothing here reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves this one function untyped

STATES = (
    "queued", "held", "running", "verifying", "succeeded", "failed", "denied", "observed", "cancelled", "expired",
    "needs_human",
)  # fmt: skip
"""Every state of a run (the words of ``run.State``, which lies above this layer): each is told even when it is 0."""

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ACTION = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_RUN = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)


class Figures(Protocol):
    """What ``set_counts`` reads; ``store.Counts`` is one."""

    @property
    def states(self) -> Mapping[str, int]:
        """Runs by state."""
        ...

    @property
    def oldest_due(self) -> float | None:
        """When the longest-waiting run became due, Unix seconds."""
        ...

    @property
    def approvals_pending(self) -> int:
        """Open questions to people."""
        ...

    @property
    def audit_records(self) -> int:
        """Records of the audit chain."""
        ...

    @property
    def changes_in_force(self) -> int:
        """Temporary changes that have not gone back yet."""
        ...


class _Ledger(Collector):
    """What the store counts: a counter that is read rather than counted, and a gauge beside a counter's name.

    ``remediator_runs`` and ``remediator_runs_total`` are two families in Prometheus' text format and would be one in
    OpenMetrics, which is why ``render`` speaks the former only.
    """

    def __init__(self) -> None:
        self.audit_records = 0
        self.states: Mapping[str, int] = {}

    def collect(self) -> Iterable[Metric]:
        """The samples as they are now; every state is told, also at 0."""
        yield CounterMetricFamily("remediator_audit_records", "Records in the audit chain.", value=self.audit_records)
        runs = GaugeMetricFamily("remediator_runs", "Runs in the store, by state.", labels=("state",))
        for state in STATES:
            runs.add_metric((state,), self.states.get(state, 0))
        yield runs


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of ``Metrics.render``: Prometheus' text format."""


class Metrics:
    """Every metric as an attribute with the name of its family without the prefix; counters say ``_total``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._intake()
        self._runs()
        self._store()
        self._service()

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"remediator_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"remediator_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"remediator_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _intake(self) -> None:
        self.alerts_received_total = self._counter(
            "alerts_received", "Alerts in accepted deliveries, by their own status.", ("status",)
        )
        for status in ("firing", "resolved"):
            self.alerts_received_total.labels(status)
        self.alerts_truncated_total = self._counter(
            "alerts_truncated", "Alerts that Alertmanager left out of its deliveries; set max_alerts: 0."
        )
        self.deliveries_total = self._counter("deliveries", "Webhook bodies by the HTTP status they got.", ("code",))
        for code in ("200", "503"):
            self.deliveries_total.labels(code)
        self.intake_duration_seconds = self._histogram(
            "intake_duration_seconds", "From the head of a webhook request to its answer, commit included.", _FAST
        )

    def _runs(self) -> None:
        self.runs_total = self._counter("runs", "Runs that ended, by rule and end state.", ("rule", "outcome"))
        self.run_duration_seconds = self._histogram(
            "run_duration_seconds", "From the moment a run was due to its end, waiting included.", _RUN
        )
        self.guard_verdicts_total = self._counter(
            "guard_verdicts", "Answers of guards: allow, hold or deny.", ("guard", "decision")
        )
        self.actions_total = self._counter(
            "actions", "Actions applied under a licence, by what came of them.", ("action", "outcome")
        )
        self.notifications_total = self._counter(
            "notifications", "Tries to tell people something, by what came of them.", ("action", "outcome")
        )
        self.action_duration_seconds = self._histogram(
            "action_duration_seconds", "How long applying an action took.", _ACTION, ("action",)
        )
        self.spend_lamports_total = self._counter("spend_lamports", "Lamports paid out, by wallet.", ("wallet",))

    def _store(self) -> None:
        self.approvals_pending = self._gauge("approvals_pending", "Changes that wait for a person's yes.")
        self.queue_oldest_seconds = self._gauge(
            "queue_oldest_seconds", "How long the longest-waiting due run has been due; 0 when none waits."
        )
        self.changes_in_force = self._gauge(
            "changes_in_force", "Temporary changes that have been made and have not gone back yet."
        )
        self.money_mismatches = self._gauge(
            "money_mismatches", "Payments that chain and ledger disagree about, by target.", ("target",)
        )
        self.money_compared_timestamp_seconds = self._gauge(
            "money_compared_timestamp_seconds", "When chain and ledger were last compared, Unix seconds.", ("target",)
        )
        self.needs_human = self._gauge("needs_human", "Runs that stopped and wait for a person to look.")
        self._ledger = _Ledger()
        self.registry.register(self._ledger)
        self.audit_last_checkpoint_timestamp_seconds = self._gauge(
            "audit_last_checkpoint_timestamp_seconds",
            "When the audit's size and head were last kept outside the store; 0 means never.",
        )
        self.audit_checkpoint_ok = self._gauge(
            "audit_checkpoint_ok", "0 when the store is not the one that the checkpoint is about: history was lost."
        )

    def _service(self) -> None:
        self.paused = self._gauge("paused", "1 while the global pause is engaged: nothing acts.")
        self.paused_scopes = self._gauge("paused_scopes", "Pauses in force, those of rules and targets included.")
        self.guards_open = self._gauge(
            "guards_open", "What guards hold until it is over or a person releases it.", ("guard",)
        )
        self.set_guards(())
        self.redis_up = self._gauge("redis_up", "0 while the Redis of the settings is of no use; 1 also without one.")
        self.redis_up.set(1)
        self.redis_errors_total = self._counter("redis_errors", "What went wrong between us and Redis.")
        self.config_last_reload_successful = self._gauge(
            "config_last_reload_successful", "1 if the last load of settings and rules succeeded; 0 keeps the old set."
        )
        self.config_last_reload_success_timestamp_seconds = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When settings and rules were last loaded, Unix seconds."
        )
        self.rules = self._gauge("rules", "Rules in force.")
        self.build_info = self._gauge(
            "build_info", "Always 1; the labels say what runs.", ("version", "python_version")
        )
        self.build_info.labels(__version__, platform.python_version()).set(1)

    def set_counts(self, counts: Figures, now: float) -> None:
        """Take over the store's figures, read at ``now`` (Unix seconds)."""
        self._ledger.states = dict(counts.states)
        self._ledger.audit_records = counts.audit_records
        self.needs_human.set(counts.states.get("needs_human", 0))
        self.approvals_pending.set(counts.approvals_pending)
        self.changes_in_force.set(counts.changes_in_force)
        self.queue_oldest_seconds.set(0 if counts.oldest_due is None else max(0.0, now - counts.oldest_due))

    def set_pauses(self, scopes: Iterable[str]) -> None:
        """Take over the scopes of the pauses in force (``global``, ``rule:NAME``, ``target:NAME``)."""
        known = set(scopes)
        self.paused.set(1 if "global" in known else 0)
        self.paused_scopes.set(len(known))

    def set_guards(self, names: Iterable[str]) -> None:
        """Take over what guards have open, one name for each; those that can hold something are told also at 0."""
        known = list(names)
        for name in ("breaker", "storm", *known):
            self.guards_open.labels(name).set(known.count(name))

    def set_reload(self, successful: bool, now: float) -> None:
        """Say how loading settings and rules went; the time of the last success stays when it failed."""
        self.config_last_reload_successful.set(1 if successful else 0)
        if successful:
            self.config_last_reload_success_timestamp_seconds.set(now)

    def render(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4 (CONTENT_TYPE)."""
        return generate_latest(self.registry)
