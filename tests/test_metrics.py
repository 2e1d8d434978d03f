"""Proves that the figures of the reference page exist under exactly those names, and that they tell the truth."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from remediator.metrics import STATES, Metrics
from remediator.run import State
from remediator.store import Counts

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "metrics.md"


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_page_names_every_metric_and_no_other() -> None:
    """Whoever writes an alert from the reference page finds every name in /metrics, and nothing is left out there."""
    offered = set(re.findall(r"^# TYPE (remediator_\w+)", Metrics().render().decode(), re.MULTILINE))
    written = set(re.findall(r"^\| `(remediator_\w+)", PAGE.read_text(), re.MULTILINE))
    assert offered == written


def test_figures_of_the_store_are_taken_over() -> None:
    """Runs by state, the age of the queue, open questions and the length of the audit chain are those of the store."""
    metrics = Metrics()
    metrics.set_counts(Counts({"held": 2, "needs_human": 1}, 990.0, 2, 17, 3), 1000.0)
    samples = _samples(metrics)
    assert samples["remediator_runs", (("state", "held"),)] == 2
    assert samples["remediator_runs", (("state", "queued"),)] == 0
    assert samples["remediator_needs_human", ()] == 1
    assert samples["remediator_queue_oldest_seconds", ()] == 10
    assert samples["remediator_approvals_pending", ()] == 2
    assert samples["remediator_changes_in_force", ()] == 3
    assert samples["remediator_audit_records_total", ()] == 17


def test_an_empty_queue_has_no_age() -> None:
    """Nothing waiting is 0 seconds, also after something has waited."""
    metrics = Metrics()
    metrics.set_counts(Counts({}, 1.0, 0, 0), 1000.0)
    metrics.set_counts(Counts({}, None, 0, 0), 1001.0)
    assert _samples(metrics)["remediator_queue_oldest_seconds", ()] == 0


def test_every_state_of_a_run_is_told() -> None:
    """A state that was added to the machine appears in the metrics too."""
    assert set(STATES) == {state.value for state in State}


def test_pause_and_reload_are_told() -> None:
    """The alert rules about Remediator itself rest on these two."""
    metrics = Metrics()
    metrics.set_pauses(["rule:a", "global"])
    metrics.set_reload(True, 5.0)
    metrics.set_reload(False, 9.0)
    samples = _samples(metrics)
    assert samples["remediator_paused", ()] == 1
    assert samples["remediator_paused_scopes", ()] == 2
    assert samples["remediator_config_last_reload_successful", ()] == 0
    assert samples["remediator_config_last_reload_success_timestamp_seconds", ()] == 5
    metrics.set_pauses(["rule:a"])
    assert _samples(metrics)["remediator_paused", ()] == 0


def test_two_services_in_one_process_do_not_share_figures() -> None:
    """There is no global registry: what one service counts, another does not show."""
    one, two = Metrics(), Metrics()
    one.deliveries_total.labels("200").inc()
    assert _samples(two)["remediator_deliveries_total", (("code", "200"),)] == 0


def test_what_guards_hold_is_told() -> None:
    """Open breakers are counted and a storm is 1, and both are told at 0 when nothing is open."""
    metrics = Metrics()
    metrics.set_guards(["breaker", "storm", "breaker"])
    samples = _samples(metrics)
    assert samples["remediator_guards_open", (("guard", "breaker"),)] == 2
    assert samples["remediator_guards_open", (("guard", "storm"),)] == 1
    metrics.set_guards([])
    assert {v for (name, _), v in _samples(metrics).items() if name == "remediator_guards_open"} == {0}
