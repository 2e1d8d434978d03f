"""Replicas of the real service on one PostgreSQL beside one Redis, the target they act on, and a way to ask them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.chaos.schedule import LEASE
from tests.crash.scene import PATHS, Outside
from tests.postgres import PASSWORD, Postgres
from tests.redis import RedisServer
from tests.servers import Server, free_port, start_remediator

_AWAY = "PostgreSQL at "
"""What the last line of a replica says that could not start because its store was away."""


class Replica:
    """One replica: always the same port and settings, whatever process it is just now."""

    def __init__(self, number: int, directory: Path, session: aiohttp.ClientSession) -> None:
        self.number = number
        self.directory = directory / f"replica{number}"
        self.directory.mkdir()
        self.config = self.directory / "remediator.yaml"
        self.rules = directory / "rules"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server: Server | None = None
        self.wanted = False
        """Whether it shall run; what keeps it so is ``keep_up``."""
        self.listening = False
        """Whether this process has answered, and so has an ear for signals."""
        self.ends: list[int] = []
        """Exit statuses of the processes that it was."""
        self.surprises: list[str] = []
        """What ended in a way that nobody asked for, and its last words."""
        self._asked_for: set[int] = set()
        self._changing = asyncio.Lock()
        self._session = session

    async def ask(self, method: str, path: str, body: Any = None, seconds: float = 10.0) -> tuple[int, Any]:
        """Status and JSON (or text) of an answer; (0, None) when there was none."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(method, self.url + path, json=body, timeout=timeout) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None
        return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def start(self) -> None:
        """Start a process; it will listen soon."""
        async with self._changing:
            self.wanted = True
            await self._start()

    async def _start(self) -> None:
        self.listening = False
        self.server = await asyncio.to_thread(
            start_remediator, self.config, f"--rules.path={self.rules}", "--web.enable-lifecycle",
            port=self.port, ready=False,
        )  # fmt: skip

    async def ready(self, seconds: float = 40.0) -> None:
        """Wait until it is ready; whoever lets it die meanwhile starts it again."""
        deadline = time.monotonic() + seconds
        while (await self.ask("GET", "/-/ready", seconds=1.0))[0] != 200:
            assert time.monotonic() < deadline, f"replica {self.number} is not ready\n{self.last_words()}"
            await asyncio.sleep(0.05)
        self.listening = True

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to its process, and to no other."""
        if self.server is not None:
            self.server.kill(number)

    async def down(self, number: signal.Signals, *expected: int) -> None:
        """End its process by a signal and leave it down."""
        async with self._changing:
            self.wanted = self.listening = False
            self._asked_for = {-number, *expected}
            if self.server is not None:
                self.tell(number)
                self.tell(signal.SIGCONT)
                await asyncio.to_thread(self.server.wait, 60.0)
                self._bury()

    async def keep_up(self) -> None:
        """Start it again whenever it ended and is wanted, as an orchestrator does; ends by being cancelled."""
        while True:
            async with self._changing:
                if self.server is not None and not self.server.running:
                    self._bury()
                if self.server is None and self.wanted:
                    await self._start()
            if self.server is not None and not self.listening:
                # A process that is stopped does not answer, and one that is only starting does not hear.
                process, (status, _) = self.server, await self.ask("GET", "/-/healthy", seconds=0.5)
                self.listening = status == 200 and self.server is process
            await asyncio.sleep(0.1)

    def _bury(self) -> None:
        """Note how its process ended, and keep what it said."""
        server, self.server = self.server, None
        assert server is not None
        status = server.wait()
        self.ends.append(status)
        said = server.log.read_text(errors="replace")
        with (self.directory / "log").open("a") as kept:
            kept.write(said)
        shutil.rmtree(server.directory, ignore_errors=True)
        away = status == 1 and _AWAY in said[-1000:]
        if status not in self._asked_for and not away:
            self.surprises.append(f"replica {self.number} ended with {status}:\n{said[-3000:]}")
        self._asked_for = set()

    def log(self) -> str:
        """Everything that its processes said."""
        kept = self.directory / "log"
        now = self.server.log.read_text(errors="replace") if self.server is not None else ""
        return (kept.read_text() if kept.exists() else "") + now

    def last_words(self) -> str:
        """The end of it."""
        return "\n".join(self.log().splitlines()[-30:])


class Fleet:
    """The replicas and everything around them. ``configure`` before ``start``."""

    def __init__(
        self, directory: Path, postgres: Postgres, redis: RedisServer, outside: Outside, session: aiohttp.ClientSession
    ) -> None:
        self.directory = directory
        self.postgres = postgres
        self.redis = redis
        self.outside = outside
        self.session = session
        self.replicas: list[Replica] = []
        self.door: list[tuple[int, bytes]] = []
        """Status and body of what real Alertmanagers delivered; a reset connection is a 502."""

    def configure(self, rules: Sequence[Mapping[str, Any]], **settings: Any) -> None:
        """Write rules and the settings of each replica; what was there is replaced at once."""
        (self.directory / "rules").mkdir(exist_ok=True)
        fresh = self.directory / "rules.fresh"
        fresh.write_text(json.dumps({"rules": rules}))
        fresh.replace(self.directory / "rules" / "all.yaml")
        permit = {"actions": ["http.post", "http.get"], "paths": ["*"]}
        target = {"kind": "http", "base_url": self.outside.url, "permit": permit}
        (self.directory / "password").write_text(PASSWORD)
        for replica in self.replicas:
            written = {
                "storage": {
                    "url": self.postgres.url(password=""),
                    "password_file": str(self.directory / "password"),
                },
                "redis": {"url": self.redis.url},
                "worker": {"lease": f"{LEASE:g}s", "poll": "500ms", "grace": "10s"},
                "audit": {"checkpoint_file": str(replica.directory / "checkpoint")},
                "targets": {"app": {**target, "max_runs": 100}, "single": {**target, "max_runs": 1}},
                **settings,
            }
            replica.config.write_text(json.dumps(written))

    async def start(self) -> None:
        """Start all replicas and wait until they are ready."""
        await self.replicas[0].start()
        await self.replicas[0].ready()  # It makes the schema; two at once would only wait for each other.
        for replica in self.replicas[1:]:
            await replica.start()
        await asyncio.gather(*(replica.ready() for replica in self.replicas))

    async def anybody(self, method: str, path: str, body: Any = None, *, seconds: float = 60.0) -> tuple[int, Any]:
        """The first answer of any replica that is neither 5xx nor none."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for replica in self.replicas:
                status, answer = await replica.ask(method, path, body, seconds=3.0)
                if 0 < status < 500:
                    return status, answer
            await asyncio.sleep(0.1)
        raise AssertionError(f"nobody answered {method} {path}")

    async def stop(self) -> list[int]:
        """SIGTERM to all, as a rollout does; their exit statuses."""
        await asyncio.gather(*(replica.down(signal.SIGTERM, 0) for replica in self.replicas))
        return [replica.ends[-1] for replica in self.replicas]

    async def states(self) -> Counter[str]:
        """How many runs are in which state, as the database says."""
        rows = await self.postgres.fetch("SELECT state, count(*) FROM remediator.run GROUP BY state")
        return Counter({row[0]: row[1] for row in rows})

    async def admit(self, request: web.Request) -> web.Response:
        """The door of one Alertmanager: hands a body to one replica and notes what came of it."""
        replica = self.replicas[int(request.match_info["replica"])]
        body = await request.read()
        status, text = await _forwarded(self.session, replica.url, body)
        self.door.append((status, body))
        return web.Response(status=status, text=text)


async def _forwarded(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, str]:
    headers = {"Content-Type": "application/json"}
    try:
        async with session.post(f"{url}/api/v1/alertmanager", data=body, headers=headers) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return 502, str(error)


@asynccontextmanager
async def fleet(directory: Path, *, replicas: int = 3) -> AsyncIterator[Fleet]:
    """Everything but the replicas' processes, which the test starts; at the end no process is left."""
    postgres, outside = Postgres(), Outside()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, postgres.remove)
        await asyncio.to_thread(postgres.make)
        await asyncio.to_thread(postgres.start)
        redis = await asyncio.to_thread(RedisServer)
        stack.push_async_callback(asyncio.to_thread, redis.stop)
        timeout = aiohttp.ClientTimeout(total=10)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        made = Fleet(directory, postgres, redis, outside, session)
        app = web.Application()
        for path in PATHS:
            app.router.add_post(path, outside.handle)
        app.router.add_get("/state", outside.state)
        app.router.add_post("/door/{replica}", made.admit)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        outside.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        made.replicas = [Replica(number, directory, session) for number in range(replicas)]
        try:
            yield made
        finally:
            with contextlib.suppress(FileNotFoundError, AssertionError, ProcessLookupError):
                postgres.thaw()
            for replica in made.replicas:
                if replica.server is not None:
                    await replica.down(signal.SIGKILL)
