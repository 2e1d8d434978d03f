"""Proves how the commands find their server, which token goes where, and what they say when it does not answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from remediator.clock import SystemClock
from tests.cli.conftest import Cli
from tests.servers import free_port
from tests.web.site import TOKENS, Site, open_site, users


async def test_no_server_is_told_with_what_to_do(cli: Cli) -> None:
    """A refused connection is one sentence that names the address and the option, with status 1."""
    url = f"http://127.0.0.1:{free_port()}"
    said = await cli("run", "list", "--remediator.url", url)
    assert said.code == 1
    assert said.err == f"Error: no Remediator answers at {url}; is `remediator serve` running? (--remediator.url)\n"


@pytest.mark.parametrize("url", ["localhost:9095", "ftp://localhost", "http://", "nonsense"])
async def test_an_address_that_is_none_is_refused(cli: Cli, url: str) -> None:
    """The form of an address is checked before anything is sent."""
    said = await cli("run", "list", "--remediator.url", url)
    assert said.code == 1
    assert "is no address of a server; write http://host:port" in said.err


async def test_another_server_is_recognised(cli: Cli) -> None:
    """What answers but is no Remediator leads to a sentence, not to a bug report."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<p>hi</p>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        said = await cli("run", "list", "--remediator.url", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert said.code == 1
    assert "does not answer as a Remediator would" in said.err


async def test_the_config_file_names_server_and_token(cli: Cli, tmp_path: Path) -> None:
    """With url and token_file in the config file nothing needs to be said, and the token stays with that server."""
    async with AsyncExitStack() as stack:
        site = await open_site(stack, SystemClock(), users=users(tmp_path))
        folder = tmp_path / ".config" / "remediator"
        folder.mkdir(parents=True)
        token = tmp_path / "viewer.token"
        (folder / "config.yml").write_text(f"url: {site.url}\ntoken_file: {token}\n")
        assert (await cli("run", "list")).code == 0
        other = site.url.replace("127.0.0.1", "localhost")
        said = await cli("run", "list", "--remediator.url", other)
        assert said.code == 1
        assert f"{other} does not know you; name the file with your API token (--token-file)" in said.err
        assert (await cli("run", "list", "--remediator.url", other, "--token-file", str(token))).code == 0
        said = await cli("pause", "--reason", "x")
        assert said.code == 1
        assert 'needs the role operator; "viewer" is viewer' in said.err
        assert TOKENS["viewer"] not in said.err


@pytest.mark.parametrize("text", ["[]", "url: 1", "address: x", "url: 'http://x'\nurl: 'http://y'", "token: abc"])
async def test_a_wrong_config_file_is_named(cli: Cli, tmp_path: Path, text: str) -> None:
    """A list, another key or a key twice: the file is named, and nothing is sent anywhere."""
    folder = tmp_path / ".config" / "remediator"
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(text)
    said = await cli("run", "list")
    assert said.code == 1
    assert "config.yml" in said.err


async def test_a_missing_token_file_is_named(cli: Cli, site: Site) -> None:
    """The file is named; the request is not sent without it."""
    said = await cli("run", "list", "--remediator.url", site.url, "--token-file", "none.token")
    assert said.code == 1
    assert "none.token: the token cannot be read" in said.err


async def test_json_is_that_of_the_api(cli: Cli, site: Site) -> None:
    """The JSON of a list is whole, and its keys are those of the API."""
    said = await cli("rule", "list", "-o", "json", "--remediator.url", site.url)
    assert [rule["name"] for rule in json.loads(said.out)] == ["minting-queue-backlog", "watch-only"]
