"""Proves who may do what: every route against every role, tokens of every strength, other sites, other machines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.errors import InputError
from remediator.redact import MASK, redact_text
from remediator.web.auth import check_listen, is_loopback
from remediator.web.events import EVENT_STREAM
from remediator.web.routes import ROUTES, Route
from remediator.web.server import start
from remediator.web.service import Role, User, WebOptions
from remediator.web.tokens import bearer, find, read_tokens
from tests.web.site import TOKENS, Site, StartSite, users

GUARDED = [route for route in ROUTES if route.role is not None]


def _path(route: Route) -> str:
    return re.sub(r"{\w+}", "nobody-has-this", route.path)


def _method(route: Route) -> str:
    # A stream has no end to wait for; whoever may not read it may not have its head either.
    return "HEAD" if route.gives == EVENT_STREAM else route.method


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_asks_for_its_role(site_with: StartSite, tmp_path: Path, route: Route) -> None:
    """Without a token 401, below the role 403, with the role anything else: for each route and each role."""
    site = await site_with(users=users(tmp_path), enable_lifecycle=True)
    assert (await site.ask(_method(route), _path(route)))[0] == 401
    assert (await site.ask(_method(route), _path(route), "x" * 40))[0] == 401
    for role in Role:
        status, _ = await site.ask(_method(route), _path(route), TOKENS[role.value], json={})
        assert route.role is not None
        assert (status not in (401, 403)) == role.covers(route.role), f"{role}: {status}"


def test_the_roles_are_as_documented() -> None:
    """Reading takes a viewer, stopping an operator, approving an approver, and reloading an admin."""
    wanted = {"approveRun": "approver", "rejectRun": "approver", "reload": "admin", "acceptLoss": "admin"}
    for route in GUARDED:
        usual = "viewer" if route.method == "GET" else "operator"
        assert route.role == wanted.get(route.name, usual), route.name
    # A click in Slack proves itself: by Slack's signature, and by the person that its user is known to be.
    assert {route.name for route in ROUTES if route.role is None} == {
        "healthy", "ready", "metrics", "index", "receiveClick",
    }  # fmt: skip
    opened = {route.name for route in ROUTES if route.role is None and route.method != "GET"}
    assert opened == {"receiveClick"}


async def test_without_users_people_on_this_machine_may_do_everything(site: Site) -> None:
    """On a developer's machine nothing has to be configured; the audit calls them anonymous."""
    assert (await site.post("/api/v1/pause", json={"reason": "trying"}))[0] == 200
    (pause,) = await site.service.store.pauses()
    assert pause.actor == "user:anonymous"


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
async def test_without_users_nobody_comes_in_through_a_proxy(site: Site, header: str) -> None:
    """A proxy on the same machine does not make strangers locals: what was forwarded needs a token."""
    assert (await site.get("/api/v1/runs", headers={header: "203.0.113.9"}))[0] == 401
    assert (await site.post("/api/v1/alertmanager", json={}, headers={header: "203.0.113.9"}))[0] == 401


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:9095", "localhost.example.com", "10.0.0.1"])
async def test_without_users_other_names_for_this_machine_are_refused(site: Site, host: str) -> None:
    """A web page whose name was pointed at loopback (DNS rebinding) reaches neither the API nor the webhook."""
    assert (await site.get("/api/v1/runs", headers={"Host": host}))[0] == 403
    assert (await site.post("/api/v1/alertmanager", json={}, headers={"Host": host}))[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9095", "127.0.0.1:1", "[::1]:9095", "[::1]"])
async def test_the_names_of_this_machine_are_known(site: Site, host: str) -> None:
    """Every usual way to write loopback works."""
    assert (await site.get("/api/v1/runs", headers={"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example.com"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=lambda headers: next(iter(headers)),
)
async def test_pages_of_other_sites_cannot_change_anything(site: Site, headers: dict[str, str]) -> None:
    """A form or a script of another site that a person has open cannot pause, approve or reload in their name."""
    status, answer = await site.post("/api/v1/pause", json={"reason": "x"}, headers=headers)
    assert (status, answer["type"]) == (403, "urn:remediator:problem:origin")
    assert not await site.service.store.pauses()


async def test_our_own_pages_can(site: Site) -> None:
    """The same request from a page of this server is accepted."""
    headers = {"Origin": site.url, "Sec-Fetch-Site": "same-origin"}
    assert (await site.post("/api/v1/pause", json={"reason": "x"}, headers=headers))[0] == 200


async def test_log_ins_are_recorded_but_not_each_request(site_with: StartSite, tmp_path: Path) -> None:
    """The audit says who came from where, once an hour; of wrong tokens it keeps the number, once a minute."""
    site = await site_with(users=users(tmp_path))
    for _ in range(3):
        await site.get("/api/v1/runs", TOKENS["viewer"])
        await site.get("/api/v1/runs", "x" * 40)
        await site.get("/api/v1/runs")
    assert await site.events() == ["login.succeeded", "login.failed"]
    records = await site.service.store.audit(limit=10)
    assert [record.actor for record in records] == ["user:viewer", "unknown"]
    assert '"address":"127.0.0.1"' in records[0].body


class _HandClock:
    """A clock that moves only when the test says so."""

    def __init__(self) -> None:
        self.at = 1_795_210_614.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


async def test_failures_are_counted_until_they_are_recorded_again(site_with: StartSite, tmp_path: Path) -> None:
    """After a minute the next wrong token makes a record that counts those in between; after an hour a good one too."""
    clock = _HandClock()
    site = await site_with(users=users(tmp_path), clock=clock)
    for _ in range(5):
        await site.get("/api/v1/runs", "x" * 40)
    clock.at += 61
    await site.get("/api/v1/runs", "x" * 40)
    records = await site.service.store.audit(event="login.failed")
    assert [re.findall(r'"failures":(\d+)', record.body) for record in records] == [["1"], ["5"]]
    await site.get("/api/v1/runs", TOKENS["viewer"])
    clock.at += 3601
    await site.get("/api/v1/runs", TOKENS["viewer"])
    assert len(await site.service.store.audit(event="login.succeeded")) == 2


def test_other_machines_need_tokens_or_users() -> None:
    """A server that anybody could use is not started on an address that others can reach, and says what to do."""
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_listen(WebOptions(), host)
    for host in ("0.0.0.0", "::", "", "10.1.2.3", "example.com"):
        with pytest.raises(InputError, match=r"listens on loopback only.*set intake.tokens_file"):
            check_listen(WebOptions(), host)
        check_listen(WebOptions(tokens_file="tokens"), host)
        check_listen(WebOptions(users=(User("a", Role.ADMIN, "f"),)), host)


@pytest.mark.parametrize("address", [None, "", "10.0.0.1", "nonsense", "::ffff:10.0.0.1", "0.0.0.0"])
def test_what_is_not_certainly_loopback_is_not(address: str | None) -> None:
    """An address that cannot be read counts as foreign."""
    assert not is_loopback(address)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no token"),
        ("# only a comment\n", "holds no token"),
        ("short", ":1: this token is too easy to guess"),
        ("# x\na" * 1 + "b" * 60, ":2: this token is too easy to guess"),
        ("1234567890" * 3, ":1: this token is too easy to guess"),
        ("0123456789abcdef0123456789abcde", ":1: this token is too easy to guess"),
        ("two words in one line here", ":1: a token has letters"),
        ("bad name:" + "k" * 10 + "a1B2c3D4e5F6g7H8i9", ":1: a name before a token"),
    ],
)
def test_weak_token_files_are_refused_with_the_line(text: str, why: str) -> None:
    """Under 128 bits, with spaces, or empty: the report names file and line, what to run, and never the token."""
    with pytest.raises(InputError) as caught:
        read_tokens(text, "tokens", "alertmanager")
    assert why in str(caught.value)
    assert "openssl rand -hex 32" in str(caught.value) or "a name before" in str(caught.value)
    assert not text or text.splitlines()[-1] not in str(caught.value)


@pytest.mark.parametrize(
    "token",
    [
        "9f86d081884c7d659a2feaa0c55ad015",
        "mF_9.B5f-4.1JqM8kL2xWq",
        "N7xQp2vT9wK4mZ8rB3yC6g==",
        "PF5XGQ3UNBSWY3DPEHPK3PXPJBSWY3DP",
    ],
)
def test_tokens_of_the_usual_generators_are_strong_enough(token: str) -> None:
    """128 random bits as hex, base64, base64url or base32 are accepted, and are secrets from then on."""
    (found,) = read_tokens(f"grafana: {token}\n", "tokens", "alertmanager")
    assert found.name == "grafana"
    assert find((found,), token) == "grafana"
    assert find((found,), token + "x") is None
    assert redact_text(f"x {token} y") == f"x {MASK} y"


def test_bearer_is_read_as_the_standard_says() -> None:
    """The scheme may be written in any case; another scheme, or none, is no token."""
    assert bearer("Bearer abc") == bearer("bearer  abc ") == "abc"
    assert bearer("Basic abc") == bearer("abc") == bearer("") == ""


async def test_a_bad_token_file_stops_the_start(site: Site, tmp_path: Path) -> None:
    """A service whose tokens are missing or weak does not start and then refuse everybody; it says so at once."""
    site.service.options = WebOptions(tokens_file=str(tmp_path / "none"))
    with pytest.raises(InputError, match="the tokens cannot be read"):
        await start(site.service, host="127.0.0.1", port=0)


async def test_an_address_in_use_is_named(site: Site) -> None:
    """Starting a second server on the same port says which address is taken."""
    with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{site.server.port}"):
        await start(site.service, host="127.0.0.1", port=site.server.port)
