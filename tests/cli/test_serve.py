"""Proves that ``serve`` hands its flags to the service, becomes ready, and refuses wrong settings with a report."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.cli.conftest import ROOT, Cli
from tests.servers import free_port

RULES = """
rules:
  - name: one
    when: {alert: A}
    steps: [{uses: http.post, target: api, with: {path: /x}}]
"""
SETTINGS = """
targets:
  api: {kind: http, base_url: "http://127.0.0.1:1", permit: {actions: [http.post], paths: [/x]}}
"""


@asynccontextmanager
async def _serving(folder: Path, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A running service in ``folder``, and its address once it is ready."""
    (folder / "rules").mkdir()
    (folder / "rules" / "one.yaml").write_text(RULES)
    (folder / "remediator.yaml").write_text(SETTINGS)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remediator", "serve", "--config.file=remediator.yaml",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.url=sqlite:store.db", *flags,
        cwd=folder, stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{url}/-/ready") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _ask(method: str, url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
        return answer.status, await answer.text()


async def test_flags_reach_the_service(tmp_path: Path) -> None:
    """The highest mode, the address, the storage and the lifecycle are those of the flags; SIGTERM ends it with 0."""
    flags = ("--mode.max=observe", "--web.enable-lifecycle", "--log.format=logfmt")
    async with _serving(tmp_path, *flags) as (process, url):
        _, rule = await _ask("GET", f"{url}/api/v1/rules/one")
        assert '"effective_mode":"observe"' in rule
        assert (await _ask("POST", f"{url}/-/reload"))[0] == 200
        assert (tmp_path / "store.db").is_file()
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert process.returncode == 0
        assert re.search(rb"^ts=\S+ level=info event=stopped", err, re.MULTILINE)


async def test_without_the_flag_nobody_reloads_over_http(tmp_path: Path) -> None:
    """The lifecycle address is off unless it was asked for."""
    async with _serving(tmp_path) as (_, url):
        assert (await _ask("POST", f"{url}/-/reload"))[0] == 403


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (("--config.file", "none.yaml"), 1, "none.yaml: error: there is no such file"),
        (("--web.listen-address", "0.0.0.0:0"), 1, "set intake.tokens_file or users, or listen on 127.0.0.1"),
        (("--web.listen-address", "nonsense"), 1, '"nonsense" is not an address to listen on'),
        (("--mode.max", "all"), 2, "'all' is not one of 'observe', 'approve', 'auto'"),
        (("--log.level", "loud"), 2, "'loud' is not one of"),
        (("--storage.url", "mysql://x"), 1, "not a database address"),
        (("--rules.path", "none"), 1, "none: error: there is no such file"),
        (("--web.config.file", "none.yml"), 1, "none.yml: cannot be read"),
    ],
)
async def test_what_cannot_be_served_is_refused_with_its_report(
    cli: Cli, tmp_path: Path, flags: tuple[str, ...], code: int, told: str
) -> None:
    """A wrong flag is status 2, wrong settings or files are status 1, each with a sentence, and nothing is started."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "one.yaml").write_text(RULES)
    (tmp_path / "remediator.yaml").write_text(SETTINGS)
    said = await cli("serve", "--config.file=remediator.yaml", "--storage.url=sqlite:store.db", *flags)
    assert said.code == code
    assert told in said.err
