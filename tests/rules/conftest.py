"""What the tests of the shipped rules share: servers that are started once and ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integrations.shared import end_all


@pytest.fixture(scope="session", autouse=True)
def shared_servers(no_process_is_left_behind: None) -> Iterator[None]:
    """Ends the servers that tests started on their first use."""
    yield
    end_all()
