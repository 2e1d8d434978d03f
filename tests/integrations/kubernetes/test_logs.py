"""Tests of the probe kubernetes.logs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.kubernetes.logs import Logs
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.support import looking


def _logs(**parameters: Any) -> Logs:
    return Logs.model_validate({"namespace": "production", **parameters})


async def test_errors_are_counted_over_all_pods(api: ApiServer, target: KubernetesTarget) -> None:
    """The pattern is counted in the last lines of every pod, and only the last matches are kept."""
    for number in range(3):
        api.answers.logs[f"queue-{number}", "main"] = "".join(
            f"line {n} {'ERROR' if n % 10 == 0 else 'INFO'}\n" for n in range(100)
        )
    seen = await _logs(statefulset="queue", pattern=r"\bERROR\b", tail=50, keep=2).read(target, looking())
    assert seen == {
        "pods": 3,
        "pods_left_out": 0,
        "lines": 150,
        "matches": 15,
        "cut": False,
        "last": ["line 80 ERROR", "line 90 ERROR"],
    }


async def test_secrets_do_not_come_along(api: ApiServer, target: KubernetesTarget) -> None:
    """T18: tokens, passwords and card numbers in a log line are taken out, and a line is not endless."""
    api.answers.logs["queue-0", "main"] = (
        "ERROR card 4111 1111 1111 1111 refused\nERROR Authorization: Bearer abcdefghijkl.canary\n"
        f"ERROR postgres://u:canary-password@db/x\nERROR {'x' * 9000}\n"
    )
    seen = await _logs(pod="queue-0", pattern="ERROR").read(target, looking())
    assert seen["matches"] == 4
    assert "canary" not in str(seen)
    assert "4111" not in str(seen)
    assert max(len(line) for line in seen["last"]) == 500


async def test_what_leaves_the_api_server_is_bounded(api: ApiServer, target: KubernetesTarget) -> None:
    """Bytes and pods are limited on the wire, and the evidence says that something was left out."""
    api.answers.logs["queue-0", "main"] = "x" * 5000
    seen = await _logs(statefulset="queue", max_bytes=1024, max_pods=2).read(target, looking())
    assert (seen["cut"], seen["pods"], seen["pods_left_out"]) == (True, 2, 1)
    queries = [call.query for call in api.calls if call.resource == "pods/log"]
    assert len(queries) == 2
    assert queries[0] == {"container": "main", "tailLines": "200", "limitBytes": "1024"}


async def test_the_log_before_the_last_restart(api: ApiServer, target: KubernetesTarget) -> None:
    """previous reads what the container said before it ended; where there is none, that is an error and no evidence."""
    api.answers.logs["queue-0/previous", "main"] = "panic: out of memory\n"
    seen = await _logs(pod="queue-0", previous=True, pattern="panic", since="5m").read(target, looking())
    assert seen["last"] == ["panic: out of memory"]
    assert api.calls[-1].query["sinceSeconds"] == "300"
    with pytest.raises(PermanentError, match="previous terminated container"):
        await _logs(pod="queue-1", previous=True).read(target, looking())
    with pytest.raises(PermanentError, match='no container "none"'):
        await _logs(pod="queue-1", container="none").read(target, looking())


def test_parameters() -> None:
    """One object, an RE2 pattern, bounded numbers; the pattern takes no placeholder."""
    for wrong in ({}, {"pod": "a", "deployment": "b"}, {"pod": "a", "pattern": "(?<=x)"}, {"pod": "a", "tail": 10**6}):
        with pytest.raises(ValidationError):
            _logs(**wrong)
    assert "pattern" in Logs.literal
    assert _logs(pod="a").needs() == {"namespaces": "production", "pods": "a"}
