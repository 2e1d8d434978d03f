"""Settings: what the operator writes becomes targets, or a report that points and repeats no secret."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.catalogue import Catalogue
from remediator.integrations.http.target import HttpTarget
from remediator.rule import Mode
from remediator.settings import Settings, SettingsError, load_settings, settings_from_text, split_address

CATALOGUE = Catalogue()


def load(text: str, **overrides: object) -> Settings:
    """The settings in ``text``; ``_`` in the name of an override stands for the dot."""
    flags = {name.replace("__", "."): value for name, value in overrides.items()}
    return settings_from_text("remediator.yaml", text.encode(), CATALOGUE, flags)


def report(text: str, **overrides: object) -> str:
    """The whole report on ``text``."""
    with pytest.raises(SettingsError) as caught:
        load(text, **overrides)
    return str(caught.value)


def ids(text: str) -> list[str]:
    """The ids of everything that is wrong with ``text``."""
    with pytest.raises(SettingsError) as caught:
        load(text)
    return [problem.id for problem in caught.value.problems]


def test_nothing_written_is_safe() -> None:
    """Without settings the service listens on loopback, knows no target and accepts no plain secret."""
    settings = load_settings(None, CATALOGUE)
    assert (settings.web.host, settings.web.port, settings.web.loopback) == ("127.0.0.1", 9095, True)
    assert settings.storage.path == Path("remediator.db")
    assert (settings.intake.drop_labels, settings.intake.max_body, settings.intake.backlog) == ([], 1 << 20, 10_000)
    assert (settings.worker.concurrency, settings.worker.lease, settings.worker.grace) == (64, 30.0, 25.0)
    assert (dict(settings.targets), dict(settings.users), settings.guards) == ({}, {}, [])
    assert (settings.mode_max, settings.approvals.expires) == (Mode.AUTO, 900.0)


FULL = """\
web: {listen_address: "0.0.0.0:9095", external_url: https://remediator.example.com/}
storage: {url: sqlite:///var/lib/remediator/remediator.db}
intake: {tokens_file: tokens, drop_labels: [pod, instance], max_body: 2MiB, tolerance: 30s}
worker: {concurrency: 8, lease: 1m}
mode_max: approve
targets:
  minting-api:
    kind: http
    base_url: https://minting-api.example.com
    bearer_token_file: secrets/minting
    permit: {actions: [http.get, "http.*"], paths: [/health*]}
services: {minting: {severities: {critical: SEV1, warning: SEV3}}}
guards: [{rate_limit: {runs: 30, per: 1h, scope: global}}]
users: {alice: {role: approver, token_file: /etc/remediator/alice}}
"""


def test_settings_become_things_to_use(tmp_path: Path) -> None:
    """Targets are real objects with their names and permissions, files are found beside the settings."""
    (tmp_path / "tokens").write_text("t")
    (tmp_path / "remediator.yaml").write_text(FULL)
    settings = load_settings(tmp_path / "remediator.yaml", CATALOGUE)
    target = settings.targets["minting-api"]
    assert isinstance(target, HttpTarget)
    assert (target.name, target.base_url) == ("minting-api", "https://minting-api.example.com")
    assert target.bearer_token_file == str(tmp_path / "secrets/minting")
    assert target.refusal("http.get", {"paths": "/health/x"}) is None
    assert target.refusal("http.get", {"paths": "/admin"}) is not None
    assert settings.intake.tokens_file == str(tmp_path / "tokens")
    assert settings.users["alice"].token_file == "/etc/remediator/alice"
    assert settings.severities == {"minting": {"critical": "SEV1", "warning": "SEV3"}}
    assert (settings.storage.path, settings.intake.max_body) == (Path("/var/lib/remediator/remediator.db"), 2 << 20)
    assert (settings.web.external_url, settings.mode_max) == ("https://remediator.example.com", Mode.APPROVE)
    # Two files that are named do not exist: worth saying, no reason to refuse.
    assert [(p.id, p.line) for p in settings.warnings] == [("settings/file", 10), ("settings/file", 14)]


REPORTS = {
    "a misspelt key": (
        "worker: {concurency: 3}\n",
        """\
        remediator.yaml:1:10: error: unknown key "concurency" [value/unknown-key]
            1 | worker: {concurency: 3}
              |          ^
          did you mean "concurrency"?""",
    ),
    "a kind of target that does not exist": (
        "targets:\n  api: {kind: htp, base_url: x}\n",
        """\
        remediator.yaml:2:15: error: no kind of target is named "htp" [target/unknown-kind]
            2 |   api: {kind: htp, base_url: x}
              |               ^
          did you mean "http"?""",
    ),
    "a metadata address": (
        "targets:\n  api: {kind: http, base_url: 'http://169.254.169.254'}\n",
        """\
        remediator.yaml:2:31: error: 169.254.169.254 is a link-local or metadata address, which is always refused [value/invalid]
            2 |   api: {kind: http, base_url: 'http://169.254.169.254'}
              |                               ^""",  # noqa: E501  # the report to the letter
    ),
    "a permission that permits nothing": (
        "targets:\n  api: {kind: http, base_url: 'http://x', permit: {actions: [http.gte]}}\n",
        """\
        remediator.yaml:2:62: error: no action and no probe is named "http.gte" [action/unknown]
            2 |   api: {kind: http, base_url: 'http://x', permit: {actions: [http.gte]}}
              |                                                              ^
          did you mean "http.get"?""",
    ),
    "a list of permissions of another kind": (
        "targets:\n  api: {kind: http, base_url: 'http://x', permit: {path: [/]}}\n",
        """\
        remediator.yaml:2:52: error: unknown key "path" [value/unknown-key]
            2 |   api: {kind: http, base_url: 'http://x', permit: {path: [/]}}
              |                                                    ^
          did you mean "paths"?""",
    ),
    "an open door": (
        "web: {listen_address: 0.0.0.0:9095}\n",
        """\
        remediator.yaml:1:23: error: 0.0.0.0:9095 is open to other machines, and nobody has to show a token [settings/open]
            1 | web: {listen_address: 0.0.0.0:9095}
              |                       ^
          set intake.tokens_file or users, or listen on 127.0.0.1""",  # noqa: E501  # the report to the letter
    ),
    "a budget of nothing": (
        "services: {a: {disruption_budget: {runs: 0}}}\n",
        """\
        remediator.yaml:1:42: error: expected at least 1, found 0 [value/invalid]
            1 | services: {a: {disruption_budget: {runs: 0}}}
              |                                          ^""",
    ),
    "a password in an address": (
        "redis: {url: 'redis://:open-sesame@redis.example.com'}\n",
        """\
        remediator.yaml:1:14: error: the address holds a password [settings/secret]
          write redis.password_file: and the path of a file that holds it""",
    ),
    "a variable that is not set": (
        "web: {external_url: '${env:NOT_SET_ANYWHERE}'}\n",
        """\
        remediator.yaml:1:22: error: the environment variable NOT_SET_ANYWHERE is not set [settings/environment]
            1 | web: {external_url: '${env:NOT_SET_ANYWHERE}'}
              |                      ^""",
    ),
    "a guard that does not exist": (
        "guards: [{cooldwn: 1m}]\n",
        """\
        remediator.yaml:1:11: error: no guard is named "cooldwn" [guard/unknown]
            1 | guards: [{cooldwn: 1m}]
              |           ^
          did you mean "cooldown"?""",
    ),
    "a size in other units": (
        "intake: {max_body: 1MB}\n",
        """\
        remediator.yaml:1:20: error: a size is a number of bytes, or text such as 64KiB or 1MiB [value/invalid]
            1 | intake: {max_body: 1MB}
              |                    ^""",
    ),
    "a role that is none": (
        "users: {bob: {role: root, token_file: x}}\n",
        """\
        remediator.yaml:1:21: error: "root" is not one of viewer, operator, approver, admin [value/choice]
            1 | users: {bob: {role: root, token_file: x}}
              |                     ^
        remediator.yaml:1:39: warning: there is no file x [settings/file]
            1 | users: {bob: {role: root, token_file: x}}
              |                                       ^""",
    ),
}


@pytest.mark.parametrize("what", REPORTS)
def test_reports_point_and_say_what_to_write(what: str) -> None:
    """Each kind of mistake in the settings gets a report with place, line, caret and advice, to the letter."""
    text, expected = REPORTS[what]
    assert report(text) == textwrap.dedent(expected)


@pytest.mark.parametrize(
    "text",
    [
        "intake: {tokens: s3cret}\n",
        "users: {bob: {role: admin, token: s3cret}}\n",
        "targets: {a: {kind: http, base_url: 'http://x', bearer_token: s3cret}}\n",
        "targets: {a: {kind: http, base_url: 'http://x', password: s3cret, permit: {actions: [nope.nope]}}}\n",
        "storage: {url: 'postgresql://user:s3cret@db/x'}\n",
        "storage: {url: 'postgresql://user@db/x?password=s3cret'}\n",
        "storage: {url: 'sqlite://user:s3cret@db/x'}\n",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    """A secret in the settings is refused, and neither the report nor its quoted lines contain it."""
    assert "s3cret" not in report(text)


def test_says_where_a_secret_belongs() -> None:
    """The refusal of a plain secret names the key for its file."""
    assert ids("targets: {a: {kind: http, base_url: 'http://x', bearer_token: s3cret}}\n") == ["settings/secret"]
    assert "write bearer_token_file: and the path" in report(
        "targets: {a: {kind: http, base_url: 'http://x', bearer_token: s3cret}}\n"
    )


def test_fills_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``${env:NAME}`` stands for the variable; what commands get is read when they run, not when settings load."""
    monkeypatch.setenv("REGION", "eu-1")
    settings = load(
        "targets:\n"
        "  api: {kind: http, base_url: 'https://api.${env:REGION}.example.com'}\n"
        "  tools: {kind: command, directory: /, environment: {SECRET: '${env:REGION}'},"
        " commands: {a: {argv: [/bin/true], description: d}}}\n"
    )
    assert "eu-1" in repr(settings.targets["api"])
    assert "eu-1" not in repr(settings.targets["tools"])


def test_flags_win_and_their_problems_name_them() -> None:
    """A flag replaces what the file says, is checked like it, and a mistake in it is reported at the flag."""
    settings = load("web: {listen_address: '127.0.0.1:1'}\n", web__listen_address="[::1]:8080", mode_max="observe")
    assert (settings.web.host, settings.web.port, settings.mode_max) == ("::1", 8080, Mode.OBSERVE)
    assert report("", web__listen_address="0.0.0.0:80").startswith("--web.listen-address: error: 0.0.0.0:80 is open")
    assert report("", mode_max="auot").startswith('--mode.max: error: "auot" is not one of observe')


@pytest.mark.parametrize("door", ["intake: {tokens_file: x}", "users: {a: {role: viewer, token_file: x}}"])
def test_a_token_opens_the_door(door: str) -> None:
    """Other machines may connect once somebody has to show a token."""
    assert load(f"web: {{listen_address: ':9095'}}\n{door}\n").web.host == ""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9095", ("127.0.0.1", 9095)),
        ("localhost:0", ("localhost", 0)),
        (":80", ("", 80)),
        ("[::1]:80", ("::1", 80)),
        ("[::]:80", ("::", 80)),
    ],
)
def test_reads_addresses(text: str, address: tuple[str, int]) -> None:
    """Addresses are written as for Prometheus' own flags."""
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "9095", "127.0.0.1", "a:b", "a:99999", "::1:80", "[x]:80", "a b:80", "a:-1", "a:٣"]
)
def test_refuses_what_is_no_address(text: str) -> None:
    """What is no address is refused with an example of one."""
    with pytest.raises(ValueError, match=r"write host:port, like 127\.0\.0\.1:9095"):
        split_address(text)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:x/y.db", "x/y.db"),
        ("sqlite:./x.db", "x.db"),
        ("sqlite:///a%20b.db", "/a b.db"),
    ],
)
def test_reads_the_place_of_the_database(url: str, path: str) -> None:
    """Three and four slashes both begin an absolute path, none a relative one."""
    assert load(f"storage: {{url: '{url}'}}\n").storage.path == Path(path)


@pytest.mark.parametrize(
    "url", ["sqlite://host/x.db", "sqlite:", "sqlite:///", "mysql://x", "/x.db", "sqlite:x.db?mode=ro"]
)
def test_refuses_what_is_no_place(url: str) -> None:
    """Another database, no path and options are refused with what to write."""
    assert "write sqlite:///path/to/remediator.db" in report(f"storage: {{url: '{url}'}}\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- a\n", ["value/type"]),
        ("targets: [a]\n", ["value/type"]),
        ("targets: {a: 3}\n", ["value/type"]),
        ("targets: {a: {base_url: x}}\n", ["value/missing"]),
        ("targets: {'a b': {kind: http, base_url: 'http://x'}}\n", ["target/name"]),
        ("targets: {a: {kind: http, base_url: 'http://x', name: b}}\n", ["value/unknown-key"]),
        ("guards: [{cooldown: 1m, pause: {}}]\n", ["guard/form"]),
        ("guards: [{cooldown: 0s}]\n", ["value/invalid"]),
        ("services: {a: {severities: {critical: 1}}}\n", ["value/type"]),
        ("escalations: {a: []}\n", ["escalation/empty"]),
        ("storage: {url: 'sqlite:x', retention: 1h}\n", ["value/invalid"]),
        ("storage: {url: 'sqlite:x', retention: 30}\n", ["value/invalid"]),
        ("storage: {migrate: maybe}\n", ["value/type"]),
        ("web: {external_url: 'ftp://x'}\n", ["value/invalid"]),
        ("worker: {concurrency: 0, lease: 1s}\n", ["value/invalid", "value/invalid"]),
        ("mode_max: no\n", ["yaml/ambiguous"]),
    ],
)
def test_knows_the_other_mistakes_too(text: str, found: list[str]) -> None:
    """Every further kind of mistake has its own stable id."""
    assert ids(text) == found


def test_redis_is_beside_the_store_only_if_said() -> None:
    """Without a word there is no Redis; with its address alone everything else has a default."""
    assert load("").redis is None
    redis = load("redis: {url: 'redis://redis.example.com:6379/3'}\n").redis
    assert redis is not None
    assert (redis.url, redis.password_file) == ("redis://redis.example.com:6379/3", None)
    assert (redis.timeout, redis.prefix) == (0.3, "remediator")


@pytest.mark.parametrize("url", ["rediss://user@redis.example.com", "unix:///run/redis/redis.sock", "redis://[::1]:1/"])
def test_every_way_to_a_redis_can_be_written(url: str) -> None:
    """TLS, a user's name, a socket and an address of IPv6 are all fine."""
    assert load(f"redis: {{url: '{url}'}}\n").redis is not None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{url: 'http://redis.example.com'}",
        "{url: 'redis://'}",
        "{url: 'redis://host:port'}",
        "{url: 'redis://host/name'}",
        "{url: 'redis://host/0?socket_timeout=99'}",
        "{url: 'unix://'}",
        "{url: 'redis://host', timeout: 2s}",
        "{url: 'redis://host', prefix: 'a:b'}",
    ],
)
def test_a_redis_that_cannot_be_meant_is_refused(text: str) -> None:
    """No option of a library gets in through the address, and nobody can be made to wait for long."""
    assert ids(f"redis: {text}\n") in (["value/invalid"], ["value/missing"])


def test_history_is_kept_for_ever_unless_said() -> None:
    """Nothing is removed by default; what is kept at least covers a day, and the report says it in these words."""
    assert load("").storage.retention is None
    assert load("storage: {retention: 400d}\n").storage.retention == 400 * 86400
    assert "1d" in report("storage: {retention: 1h}\n")


def test_the_checkpoint_is_beside_a_database_unless_said(tmp_path: Path) -> None:
    """Loss is looked for without a word in the settings; a named place need not hold it yet."""
    assert load("storage: {url: 'sqlite:///var/x.db'}\n").checkpoint_file == Path("/var/x.db.checkpoint")
    (tmp_path / "remediator.yaml").write_text("audit: {checkpoint_file: kept/audit.json}\n")
    settings = load_settings(tmp_path / "remediator.yaml", CATALOGUE)
    assert settings.checkpoint_file == tmp_path / "kept" / "audit.json"
    assert [problem.message for problem in settings.warnings] == [f"there is no directory {tmp_path / 'kept'}"]
    (tmp_path / "kept").mkdir()
    assert not load_settings(tmp_path / "remediator.yaml", CATALOGUE).warnings


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A misspelt path of the settings is an error, never "no settings"."""
    with pytest.raises(SettingsError, match=r"nope\.yaml: error: there is no such file \[file/missing\]"):
        load_settings(tmp_path / "nope.yaml", CATALOGUE)
    with pytest.raises(SettingsError, match=r"cannot be read"):
        load_settings(tmp_path, CATALOGUE)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "url", "role", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["web", "storage", "intake", "worker", "targets", "services", "guards", "users", "mode_max", "x"]
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_form_is_read_or_refused(data: dict[str, object]) -> None:
    """Whatever somebody writes, the answer is settings or a report, never a traceback."""
    import json

    try:
        assert isinstance(load(json.dumps(data)), Settings)
    except SettingsError as error:
        assert error.problems


def test_a_disruption_budget_becomes_a_guard_of_its_rules() -> None:
    """A number or a map; services without one have no such guard."""
    settings = load("services: {a: {disruption_budget: 2}, b: {disruption_budget: {settle: 90s}}, c: {}}\n")
    assert settings.service_guards == {
        "a": [{"budget": {"runs": 2, "settle": "10m"}}],
        "b": [{"budget": {"runs": 1, "settle": "1m30s"}}],
    }
