"""Talks to a running server: where it is, with which token, and what its answers mean for a person."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT = "http://127.0.0.1:9095"
_TIMEOUT = 30.0


def server_options(command: F) -> F:
    """Adds ``--remediator.url`` and ``--token-file``; both reach the command as ``url`` and ``token_file``."""
    command = click.option(
        "--token-file", "token_file", envvar="REMEDIATOR_TOKEN_FILE", metavar="FILE", help="File with your API token."
    )(command)
    return click.option(
        "--remediator.url",
        "url",
        envvar="REMEDIATOR_URL",
        metavar="URL",
        help=f"Where the server answers; default: the config file's url, or {DEFAULT}.",
    )(command)


class Client:
    """One server. Every method raises ClickException (exit status 1) with a sentence that says what to do."""

    def __init__(self, url: str | None, token_file: str | None) -> None:
        kept = {} if url and token_file else _config()
        self.url = (url or kept.get("url") or DEFAULT).rstrip("/")
        self._parts = urlsplit(self.url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise click.ClickException(f'"{self.url}" is no address of a server; write http://host:port')
        # A token of the config file belongs to the server of the config file and goes to no other.
        ours = not url or url.rstrip("/") == str(kept.get("url", "")).rstrip("/")
        file = token_file or (kept.get("token_file") if ours else None)
        self._token = _token(file) if file else ""

    def get(self, *path: str, **query: Any) -> Any:
        """The JSON at a path; lists in ``query`` are repeated, empty values left out."""
        with self._answer("GET", path, query) as answer:
            return json.load(answer)

    def post(self, *path: str, body: Any) -> Any:
        """The JSON that answers ``body``."""
        with self._answer("POST", path, {}, json.dumps(body).encode()) as answer:
            return json.load(answer)

    def stream(self, *path: str, **query: Any) -> Iterator[bytes]:
        """The answer piece by piece."""
        with self._answer("GET", path, query) as answer:
            while piece := answer.read(65536):
                yield piece

    def items(self, *path: str, limit: int, **query: Any) -> list[Any]:
        """Up to ``limit`` items of a list, page by page."""
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            page = self.get(*path, limit=min(1000, limit - len(found)), cursor=cursor, **query)
            if not isinstance(page, dict) or "items" not in page:
                raise click.ClickException(f"{self.url} does not answer as a Remediator would")
            found += page["items"]
            cursor = page["next"]
        return found

    @contextmanager
    def _answer(
        self, method: str, path: tuple[str, ...], query: dict[str, Any], body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        given = {key: value for key, value in query.items() if value not in (None, "", (), [])}
        address = self._parts.path + "/" + "/".join(quote(part, safe="@") for part in path)
        if given:
            address += "?" + urlencode(given, doseq=True)
        headers = {"Accept": "application/json", "User-Agent": "remediator-cli"}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection = self._connection()
        try:
            connection.request(method, address, body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise click.ClickException(self._sentence(answer))
            yield answer
        except ConnectionRefusedError:
            raise click.ClickException(
                f"no Remediator answers at {self.url}; is `remediator serve` running? (--remediator.url)"
            ) from None
        except ssl.SSLError as error:
            raise click.ClickException(f"{self.url}: no secure connection: {error.reason}") from None
        except TimeoutError:
            raise click.ClickException(f"{self.url} did not answer within {_TIMEOUT:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # Our own output has no reader any more.
            raise click.ClickException(f"{self.url} does not answer as a Remediator would: {error}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)

    def _sentence(self, answer: http.client.HTTPResponse) -> str:
        try:
            problem = json.loads(answer.read(1 << 20))
            detail = problem.get("detail") or problem["title"]
        except (ValueError, KeyError, AttributeError):
            detail = f"{self.url} answered {answer.status} {answer.reason}, which no Remediator would"
        if answer.status == 401:
            return f"{self.url} does not know you; name the file with your API token (--token-file)"
        return str(detail)


def _token(file: str) -> str:
    try:
        text = Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: the token cannot be read: {error}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    token = lines[0].rpartition(":")[2].strip() if lines else ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.ClickException(f"{file}: holds no token")
    return token


def _config() -> dict[str, str]:
    """``~/.config/remediator/config.yml``: a map with url and token_file; nothing if there is no such file."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(folder).expanduser() / "remediator" / "config.yml"
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read: {error.strerror}") from None
    from remediator.document import load_document

    data = load_document(str(path), raw).data
    if data is None:
        return {}
    if not isinstance(data, dict) or any(key not in ("url", "token_file") for key in data):
        raise click.ClickException(f"{path}: must be a map with url and token_file, and nothing else")
    if not all(isinstance(value, str) for value in data.values()):
        raise click.ClickException(f"{path}: url and token_file must be text")
    return data
