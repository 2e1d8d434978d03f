"""Remediator itself as the benchmark runs it: the real command, the settings and rules of each measurement."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.processes import Broken, Process, free_port

WAITS = """\
  - name: waits
    owner: bench
    runbook_url: https://runbooks.example.com/queue
    mode: auto
    when: {alert: HighQueueDepth, for: 1h}
    guards: [{cooldown: {for: 1m, scope: incident}}]
    steps: [{uses: http.post, target: api, with: {path: /act, json: {number: "${{ labels.queue }}"}}}]
"""
"""Opens a run for every new alert, and the run is due in an hour: what accepting costs without acting."""

ACTS = WAITS.replace(", for: 1h", "").replace("name: waits", "name: acts")
"""Acts on every new alert at once."""

VERIFIES = ACTS + "    verify: {until: alert.resolved, within: 10m}\n"
"""Acts at once, then waits to see the alert resolve."""

_FILLER = """\
  - name: filler-{0}
    owner: bench
    runbook_url: https://runbooks.example.com/queue
    mode: auto
    when: {{alert: Filler{0}, matchers: ['severity=~"warning|critical"']}}
    guards: [{{cooldown: {{for: 1m, scope: incident}}}}]
    steps: [{{uses: http.post, target: api, with: {{path: /act, json: {{number: "{0}"}}}}}}]
    verify: {{until: alert.resolved, within: 10m}}
"""


def many(count: int) -> list[str]:
    """``WAITS`` and as many other rules as make ``count``, a thousand in each file."""
    rules = [WAITS, *(_FILLER.format(number) for number in range(count - 1))]
    return ["".join(rules[at : at + 1000]) for at in range(0, count, 1000)]


def settings(target_port: int, password_file: Path | None = None) -> str:
    """Settings with everything as it is by default, but for the target and a backlog that never fills."""
    api = {
        "kind": "http",
        "base_url": f"http://127.0.0.1:{target_port}",
        "max_runs": 64,
        "permit": {"actions": ["http.post"], "paths": ["/act"]},
    }
    storage = {"storage": {"password_file": str(password_file)}} if password_file else {}
    return json.dumps({"intake": {"backlog": 10_000_000}, "targets": {"api": api}, **storage})


def remediator(
    directory: Path,
    name: str,
    rules: str | list[str],
    target_port: int,
    *,
    storage: str = "",
    password_file: Path | None = None,
) -> Process:
    """The service with ``rules`` (one text for each file); for each ``name`` its own SQLite file, or ``storage``."""
    home = directory / name
    (home / "rules").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate([rules] if isinstance(rules, str) else rules):
        (home / "rules" / f"{number}.yaml").write_text("rules:\n" + text)
    (home / "remediator.yaml").write_text(settings(target_port, password_file))
    port = free_port()
    argv = [
        "-m", "remediator", "serve",
        "--config.file", str(home / "remediator.yaml"),
        "--rules.path", str(home / "rules"),
        "--storage.url", storage or f"sqlite://{home}/remediator.db",
        "--web.listen-address", f"127.0.0.1:{port}",
    ]  # fmt: skip
    return Process(argv, port=port, ready="/-/ready", log=home / "log")


def arrivals(target: Process) -> dict[str, float]:
    """When each number arrived at the target, on CLOCK_MONOTONIC. Raises Broken when one arrived twice."""
    told = json.loads(target.read("/arrivals"))
    if told["again"]:
        raise Broken(f"{told['again']} actions were carried out twice")
    found: dict[str, float] = told["arrivals"]
    return found
