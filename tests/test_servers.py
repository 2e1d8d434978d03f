"""Proves that tests/servers.py starts real servers, ends them, and complains where it cannot."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from typing import Any

import aiohttp
import pytest

from tests import servers

ALERT_RULE = """
groups:
  - name: tests
    rules:
      - alert: QueueTooLong
        expr: queue_length > 100
"""

ALERTMANAGER = """
route: {receiver: nobody, group_wait: 100ms, group_interval: 1s}
receivers: [{name: nobody}]
"""


async def _until(url: str, found: Any, seconds: float = 15.0) -> Any:
    """The JSON of ``url`` as soon as ``found`` accepts it."""
    seen = None
    async with aiohttp.ClientSession() as session:
        for _ in range(int(seconds / 0.1)):
            async with session.get(url) as answer:
                seen = await answer.json()
            if found(seen):
                return seen
            await asyncio.sleep(0.1)
    raise AssertionError(f"{url} still answers {seen}")


async def test_a_pushed_metric_becomes_an_alert() -> None:
    """A number pushed to Pushgateway reaches Prometheus, breaks a rule and is an alert in Alertmanager."""
    async with (
        servers.pushgateway() as gateway,
        servers.alertmanager(ALERTMANAGER) as alertmanager,
        servers.prometheus(
            targets=[gateway.url], alertmanagers=[alertmanager.url], rules={"tests.rules.yml": ALERT_RULE}
        ),
    ):
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{gateway.url}/metrics/job/minting", data=b"queue_length 4321\n") as answer,
        ):
            assert answer.status == 200
        alerts = await _until(f"{alertmanager.url}/api/v2/alerts", bool)
    assert alerts[0]["labels"] == {"alertname": "QueueTooLong", "job": "minting"}


async def test_two_alertmanagers_form_a_cluster() -> None:
    """Peers find each other, so that tests of duplicate deliveries have a real pair."""
    async with (
        servers.alertmanager(ALERTMANAGER, cluster=True) as first,
        servers.alertmanager(ALERTMANAGER, peers=[first.cluster]) as second,
    ):
        status = await _until(f"{second.url}/api/v2/status", lambda seen: len(seen["cluster"]["peers"]) == 2)
    assert status["cluster"]["status"] in {"ready", "settling"}


def test_a_server_ends_with_its_folder() -> None:
    """``stop`` ends exactly the process that was started, also a frozen one, and leaves no files."""
    server = servers.start_pushgateway()
    server.kill(signal.SIGSTOP)
    server.stop()
    assert not server.running
    assert not server.directory.exists()


def test_a_killed_server_says_which_signal_ended_it() -> None:
    """Tests of crashes can see that the process died of the signal they sent, not by itself."""
    with servers.start_pushgateway() as server:
        server.kill(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL


def test_a_server_that_cannot_start_shows_its_log() -> None:
    """A wrong configuration fails the test at once, with the words of the server itself."""
    with pytest.raises(AssertionError, match=r"(?s)prometheus ended with .*no_such_key"):
        servers.start_prometheus("no_such_key: 1")


def test_a_missing_program_is_an_error_that_says_what_to_do() -> None:
    """A test never passes because the server it needs is absent."""
    with pytest.raises(AssertionError, match='neither-here or nor-there is not installed; "make test"'):
        servers.program("neither-here", "nor-there")


def test_ports_are_free_and_never_handed_out_twice() -> None:
    """Servers started side by side do not fight over a port."""
    ports = [servers.free_port() for _ in range(200)]
    assert len(set(ports)) == 200


def test_a_custom_configuration_is_used_as_it_stands() -> None:
    """Tests of our own prometheus.yml run Prometheus with it, not with one made up here."""
    with (
        servers.start_prometheus("global: {scrape_interval: 37s}") as server,
        urllib.request.urlopen(f"{server.url}/api/v1/status/config", timeout=5) as answer,
    ):
        assert "scrape_interval: 37s" in json.load(answer)["data"]["yaml"]
