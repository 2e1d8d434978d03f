"""The connection to Redis: asks and tells within a short time or not at all, heals by itself, and never raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from remediator.metrics import Metrics
from remediator.redact import register_secret
from remediator.stores._redis_limits import Command

_log = structlog.get_logger("remediator.redis")
_CHECK = 1.0
"""Seconds between looks at a connection on which nothing is said."""
_FIRST, _LONGEST = 0.25, 5.0
"""Seconds between tries to connect again, twice as long each time; until one goes well nobody asks Redis anything."""
_REMEMBERED = 30.0
"""Seconds for which a command that Redis refused counts as a trouble."""
_MOST = 10_000
"""How many commands may wait; more are dropped, because what is late is of no use."""


class _Asked(NamedTuple):
    command: Command
    answer: asyncio.Future[Any] | None


class _File(CredentialProvider):
    """The password of a file, read again for every connection, so that it can be rotated while the service runs."""

    def __init__(self, user: str, path: str) -> None:
        self._user = user
        self._path = Path(path)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text(encoding="utf-8").rstrip("\r\n")
        register_secret(password)
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)


class RedisLink:
    """Two connections, one that talks and one that listens, each with a task that makes it anew when it breaks.

    ``timeout`` bounds every wait for an answer, in seconds. After a failure nobody waits again until Redis has been
    seen to answer, so that a server which hangs is paid for once and not by every caller. ``channels`` are listened to
    under ``prefix``; ``heard`` is called with each on which somebody but ``owner`` called, and with all of them when a
    call may have been missed.
    """

    def __init__(
        self,
        url: str,
        *,
        owner: str,
        password_file: str,
        timeout: float,
        prefix: str,
        channels: tuple[str, ...],
        heard: Callable[[str], None],
        metrics: Metrics,
    ) -> None:
        parts = urlsplit(url)
        self._url, self._credentials = url, None
        if password_file:
            self._url = url.replace(f"//{parts.netloc}", f"//{parts.netloc.rpartition('@')[2]}", 1)
            self._credentials = _File(parts.username or "", password_file)
        self._owner = owner
        self._timeout = timeout
        self._prefix = prefix
        self._channels = channels
        self._heard = heard
        self._metrics = metrics
        self._troubles = {"connection": "not connected"}
        self._refused_at = 0.0
        self._waiting: list[_Asked] = []
        self._calls: set[str] = set()
        self._something = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # life ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._troubles = {"connection": "not reached yet"}
        self._metrics.redis_up.set(0)
        self._tasks = [
            asyncio.create_task(self._for_ever("connection", self._talk), name="redis-talk"),
            asyncio.create_task(self._for_ever("subscription", self._listen), name="redis-listen"),
        ]

    async def stop(self) -> None:
        """End both connections; what was still to be said is dropped."""
        tasks, self._tasks = set(self._tasks), []
        while tasks:
            # The library loses a cancellation that finds it reconnecting, so it is said until it is heard.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=self._timeout)
        self._troubles = {"connection": "not connected"}

    @property
    def health(self) -> str:
        """``ok``, or ``degraded: …`` with what is wrong."""
        return "degraded: " + "; ".join(self._troubles.values()) if self._troubles else "ok"

    # what stores say -------------------------------------------------------------------------------------------------

    def call(self, channel: str) -> None:
        """Let everybody who listens to ``channel`` know. Many calls at the same time are one."""
        if self._answers:
            self._calls.add(channel)
            self._something.set()

    def tell(self, command: Command) -> None:
        """Send ``command`` soon, or never; nobody waits for it."""
        if self._answers and len(self._waiting) < _MOST:
            self._waiting.append(_Asked(command, None))
            self._something.set()

    async def ask(self, command: Command) -> Any:
        """The answer of Redis, or None when there is none in time: then nobody knows."""
        if not self._answers or len(self._waiting) >= _MOST:
            return None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(command, answer))
        self._something.set()
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            self._trouble("connection", f"no answer within {self._timeout:g} s")
            return None

    @property
    def _answers(self) -> bool:
        return bool(self._tasks) and "connection" not in self._troubles

    # connections -----------------------------------------------------------------------------------------------------

    def _client(self) -> Redis:
        # The library would try four times and wait for seconds; here the next try is another connection, later.
        return Redis.from_url(
            self._url,
            credential_provider=self._credentials,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            health_check_interval=0,
            client_name="remediator",
        )

    async def _for_ever(self, name: str, work: Callable[[Redis], Any]) -> None:
        pause = _FIRST / 2
        while True:
            client = self._client()
            try:
                await work(client)
            except Exception as error:  # noqa: BLE001 - whatever ails Redis may cost time and nothing else
                pause = _FIRST if name not in self._troubles else min(_LONGEST, pause * 2)
                self._trouble(name, str(error) or type(error).__name__)
            finally:
                await _end(client, self._timeout)
            await asyncio.sleep(pause)

    async def _talk(self, client: Redis) -> None:
        await client.ping()
        # What this process committed in the meantime was told to nobody.
        self._calls = set(self._channels)
        while True:
            self._fine("connection")
            if self._refused_at + _REMEMBERED < asyncio.get_running_loop().time():
                self._fine("commands")
            if not self._calls and not self._waiting:
                await _until(self._something, _CHECK)
            self._something.clear()
            await self._say(client)

    async def _say(self, client: Redis) -> None:
        """Everything that waits, in one go and in order; a bare PING if nothing does."""
        waiting, self._waiting = self._waiting, []
        calls, self._calls = self._calls, set()
        pipe = client.pipeline(transaction=False)
        pipe.execute_command("PING")
        for channel in sorted(calls):
            pipe.execute_command("PUBLISH", f"{self._prefix}:{channel}", self._owner)
        for asked in waiting:
            pipe.execute_command(*asked.command)
        answers: list[Any] = [None] * len(waiting)
        try:
            said = await pipe.execute(raise_on_error=False)
            for refused in (each for each in said if isinstance(each, Exception)):
                self._refused_at = asyncio.get_running_loop().time()
                self._trouble("commands", f"refuses commands: {refused}")
            answers = [None if isinstance(each, Exception) else each for each in said[1 + len(calls) :]]
        finally:
            for asked, answer in zip(waiting, answers, strict=True):
                if asked.answer is not None and not asked.answer.done():
                    asked.answer.set_result(answer)

    async def _listen(self, client: Redis) -> None:
        names = {f"{self._prefix}:{channel}": channel for channel in self._channels}
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(*names)
            while True:
                message = await _next(pubsub)
                self._fine("subscription")
                # From a subscription on nothing is missed; before, anything may have been.
                called = message["type"] == "message" and _text(message["data"]) != self._owner
                if called or message["type"] == "subscribe":
                    self._heard(names[_text(message["channel"])])

    # health ----------------------------------------------------------------------------------------------------------

    def _trouble(self, part: str, text: str) -> None:
        self._metrics.redis_errors_total.inc()
        before = self.health
        self._troubles[part] = text
        if before == "ok":
            _log.warning("Redis is degraded; everything goes on without it, only slower", error=text)
        self._metrics.redis_up.set(0)

    def _fine(self, part: str) -> None:
        if self._troubles.pop(part, None) is not None and not self._troubles:
            _log.info("Redis answers")
            self._metrics.redis_up.set(1)


async def _next(pubsub: PubSub) -> dict[str, Any]:
    """The next message; after a silence the server is asked whether it is still there. Raises TimeoutError."""
    for _ in range(2):
        message: dict[str, Any] | None = await pubsub.get_message(timeout=_CHECK)
        if message is not None:
            return message
        await pubsub.ping()
    raise TimeoutError("no answer on the subscription")


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


async def _until(something: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await something.wait()
    except TimeoutError:
        pass


async def _end(client: Redis, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await client.aclose()
    except Exception as error:  # noqa: BLE001 - a connection that cannot be closed is given up
        _log.debug("a connection to Redis did not close", error=str(error))
