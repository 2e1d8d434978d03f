"""The command line as a person has it: its own process, asked about a running site."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from remediator.clock import SystemClock
from tests.web.site import Site, open_site

ROOT = Path(__file__).parent.parent.parent


class Said(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Cli = Callable[..., Awaitable[Said]]


@pytest.fixture
async def cli(tmp_path: Path) -> Cli:
    """Runs ``remediator`` with arguments in an empty home; ``env`` adds variables, ``given`` is standard input."""

    async def call(*arguments: str, given: bytes = b"", env: dict[str, str] | None = None) -> Said:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
        home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", "remediator", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path, env={**kept, **home, **(env or {})},
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, err = await process.communicate(given)
        return Said(process.returncode or 0, out.decode(), err.decode())

    return call


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A running site without tokens."""
    async with AsyncExitStack() as stack:
        yield await open_site(stack, SystemClock())


@pytest.fixture
async def ask(cli: Cli, site: Site) -> Cli:
    """Runs ``remediator`` against the site."""

    async def call(*arguments: str, **more: Any) -> Said:
        return await cli(*arguments, env={"REMEDIATOR_URL": site.url}, **more)

    return call
