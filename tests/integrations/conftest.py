"""What tests of integrations share: servers that are started once, and integrations that are switched off by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integrations.compose import engine
from tests.integrations.pm2 import daemon
from tests.integrations.shared import end_all
from tests.integrations.support import WITHOUT, switched_off

collect_ignore_glob = [f"{system}/*" for system in switched_off()]


def pytest_report_header() -> str:
    """Say it where everybody looks: what is switched off is not tried."""
    return f"switched off by {WITHOUT}: {', '.join(switched_off())}" if switched_off() else ""


@pytest.fixture(scope="session", autouse=True)
def shared_servers(no_process_is_left_behind: None) -> Iterator[None]:
    """Ends the servers that stages started on their first use."""
    yield
    engine.stop()
    daemon.stop()
    end_all()
