"""The settings of a target of kind ``prometheus``."""

from __future__ import annotations

from remediator.integrations import _web


class PrometheusTarget(_web.WebTarget):
    """A server with Prometheus' HTTP API below ``base_url`` (``/api/v1/query``): Prometheus, Thanos, Mimir."""
