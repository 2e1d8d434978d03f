"""Fixtures of the tests of the HTTP face: a running site, plain or with options."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from remediator.clock import SystemClock
from tests.web.site import Site, StartSite, open_site


@pytest.fixture
async def site_with() -> AsyncIterator[StartSite]:
    """Starts sites with the given options; ends everything after the test."""
    async with AsyncExitStack() as stack:

        async def begin(**options: Any) -> Site:
            return await open_site(stack, options.pop("clock", SystemClock()), **options)

        yield begin


@pytest.fixture
async def site(site_with: StartSite) -> Site:
    """A site without tokens and users, as on a developer's machine."""
    return await site_with()
