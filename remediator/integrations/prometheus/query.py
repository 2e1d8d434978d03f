"""``prometheus.query``: evaluate one PromQL expression now and keep the result as evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, model_validator

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._body import parse_json
from remediator.integrations._client import Answer, Unanswered
from remediator.integrations.http._path import with_query
from remediator.integrations.prometheus._promql import VARIABLE, check, fill, promql_string
from remediator.integrations.prometheus.target import PrometheusTarget
from remediator.probe import Probe, ProbeContext

_MOST_SERIES = 1000
# https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview
_TEMPORARY = frozenset({"timeout", "canceled", "internal", "unavailable"})
_LASTING = frozenset({"bad_data", "execution", "not_found", "not_acceptable"})


class Query(Probe[PrometheusTarget]):
    """Evaluates an instant query. ``value`` is the number if there is exactly one finite one, else null."""

    literal: ClassVar[frozenset[str]] = frozenset({"query"})

    query: str = Field(
        min_length=1,
        max_length=4096,
        description="PromQL that gives a vector or a scalar, written out in full; values from labels come "
        "in as `$name` from `variables`.",
    )
    variables: dict[Annotated[str, StringConstraints(pattern=VARIABLE)], str] = Field(
        default_factory=dict,
        max_length=20,
        description="Values for `$name` in the query; each becomes one quoted string.",
    )

    @model_validator(mode="after")
    def _variables_fit(self) -> Query:
        check(self.query, frozenset(self.variables))
        for name, value in self.variables.items():
            try:
                promql_string(value)
            except UnicodeEncodeError:
                raise ValueError(f'variable "{name}" must be valid Unicode text') from None
            if len(value) > 1024:
                raise ValueError(f'variable "{name}" is longer than 1024 characters')
        return self

    def needs(self) -> Mapping[str, str]:
        """Nothing narrower than the probe's own name."""
        return {}

    async def read(self, target: PrometheusTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The result as evidence. Raises TemporaryError, PermanentError."""
        try:
            answer = await target.send(
                "GET",
                with_query("/api/v1/query", {"query": fill(self.query, self.variables)}),
                headers={"Accept": "application/json"},
            )
        except Unanswered as error:
            raise TemporaryError(str(error), reason="unanswered") from error
        return _evidence(_data(answer))


def _data(answer: Answer) -> dict[str, Any]:
    """The body of a successful answer; raises what an unsuccessful one means."""
    if answer.truncated:
        raise PermanentError("the result is larger than max_response; aggregate in the query", reason="too_large")
    if answer.broken:
        raise TemporaryError("the answer of Prometheus broke off", reason="unanswered")
    try:
        body = parse_json(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("status") not in ("success", "error"):
        raise _not_prometheus(answer.status)
    if body["status"] == "error":
        kind, text = str(body.get("errorType", ""))[:40], str(body.get("error", ""))[:500]
        if kind in _TEMPORARY or answer.status == 429:
            raise TemporaryError(
                f"Prometheus could not answer ({kind}): {text}", reason=kind if kind in _TEMPORARY else "status_429"
            )
        raise PermanentError(
            f"Prometheus refused the query ({kind}): {text}", reason=kind if kind in _LASTING else "refused"
        )
    return body


def _not_prometheus(status: int) -> ActionError:
    message = f"the target answered {status} and not as Prometheus does"
    if status == 429 or status >= 500:
        return TemporaryError(message, reason=f"status_{status}")
    if status in (401, 403):
        return PermanentError(f"{message}: the credentials are not accepted", reason=f"status_{status}")
    if 300 <= status < 400:
        return PermanentError(f"{message}: redirects are not followed, write the final base_url", reason="redirect")
    return PermanentError(f"{message}; is base_url right?", reason="not_prometheus")


def _number(text: Any) -> float | None:
    """The sample's value, or None for NaN and infinities, which JSON cannot hold and no threshold should pass."""
    value = float(text)
    return value if math.isfinite(value) else None


def _evidence(body: dict[str, Any]) -> dict[str, Any]:
    """Series with their labels and numbers, in the order Prometheus gave them."""
    try:
        kind, result = body["data"]["resultType"], body["data"]["result"]
        if kind in ("matrix", "string"):
            raise PermanentError(
                f"the query gives a {kind}; ask for a vector or a scalar, such as max_over_time(…[5m])",
                reason="result_type",
            )
        rows = [{"metric": {}, "value": result}] if kind == "scalar" else result
        values = [
            {
                "labels": dict(row["metric"]),
                "value": _number(row["value"][1]),
                "text": str(row["value"][1]),
            }
            for row in rows[:_MOST_SERIES]
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        raise PermanentError("the result is not in the format of Prometheus' API", reason="not_prometheus") from None
    return {
        "type": kind,
        "values": values,
        "value": values[0]["value"] if len(rows) == 1 else None,
        "count": len(rows),
        "truncated": len(rows) > _MOST_SERIES,
        "warnings": [str(warning)[:500] for warning in body.get("warnings", [])][:20],
    }
