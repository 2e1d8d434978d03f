"""Tests of the probe prometheus.query, against Debian's Prometheus and, for its failures, a server of bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import re2
from pydantic import ValidationError

from remediator.action import canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.http._path import with_query
from remediator.integrations.prometheus._promql import fill, literal_regex, promql_string
from remediator.integrations.prometheus.query import Query
from remediator.integrations.prometheus.target import PrometheusTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.support import Wire, looking, reply, wire
from tests.servers import free_port, start_prometheus

RULES = r"""
groups:
  - name: tests
    interval: 200ms
    rules:
      - {record: queue_depth, expr: "vector(1534.5)", labels: {namespace: production, pod: minting-1}}
      - {record: queue_depth, expr: "vector(3)", labels: {namespace: staging, pod: minting-2}}
      - {record: queue_depth, expr: "vector(7)", labels: {namespace: staging, pod: 'a"b\.*'}}
"""


@pytest.fixture(scope="module")
def server_url() -> Any:
    """Prometheus with three series that its own rules record."""
    with start_prometheus(rules={"tests.yml": RULES}) as server:
        yield server.url


@pytest.fixture
async def target(server_url: str) -> AsyncIterator[PrometheusTarget]:
    """A target on it, once the series are there."""
    it = PrometheusTarget(base_url=server_url)
    for _ in range(200):
        if (await Query(query="count(queue_depth)").read(it, looking()))["value"] == 3:
            break
        await asyncio.sleep(0.05)
    yield it
    await it.close()


async def test_one_series_is_a_value(target: PrometheusTarget) -> None:
    """With exactly one series, value is its number, and labels and raw text are kept."""
    evidence = await Query(query='queue_depth{namespace="production"}').read(target, looking())
    assert evidence["type"] == "vector"
    assert (evidence["value"], evidence["count"]) == (1534.5, 1)
    (series,) = evidence["values"]
    assert series["labels"] == {"__name__": "queue_depth", "namespace": "production", "pod": "minting-1"}
    assert series["text"] == "1534.5"


async def test_several_series_have_no_single_value(target: PrometheusTarget) -> None:
    """With several series value is null: which one is meant is not guessed."""
    evidence = await Query(query="queue_depth").read(target, looking())
    assert (evidence["value"], evidence["count"]) == (None, 3)


async def test_no_series_is_nothing(target: PrometheusTarget) -> None:
    """A query that finds nothing has count 0 and no value, never zero."""
    evidence = await Query(query="queue_depth > 99999").read(target, looking())
    assert (evidence["value"], evidence["count"], evidence["values"]) == (None, 0, [])


@pytest.mark.parametrize("query", ["0/0", "1/0", "-1/0", "vector(0/0)"])
async def test_what_is_not_a_number_is_null(target: PrometheusTarget, query: str) -> None:
    """NaN and infinities are null, which no threshold passes, and the evidence stays JSON."""
    evidence = await Query(query=query).read(target, looking())
    assert evidence["value"] is None
    assert evidence["values"][0]["text"] in ("NaN", "+Inf", "-Inf")
    canonical_json(evidence)


async def test_a_scalar_is_a_value(target: PrometheusTarget) -> None:
    """A scalar result is one value without labels."""
    evidence = await Query(query="scalar(vector(2)) * 3").read(target, looking())
    assert (evidence["type"], evidence["value"], evidence["values"][0]["labels"]) == ("scalar", 6.0, {})


@pytest.mark.parametrize("query", ["queue_depth[5m]", '"text"'])
async def test_ranges_and_strings_are_refused(target: PrometheusTarget, query: str) -> None:
    """A range has no value of now; the message says what to write."""
    with pytest.raises(PermanentError, match="max_over_time"):
        await Query(query=query).read(target, looking())


@pytest.mark.parametrize(("query", "reason"), [("sum(", "bad_data"), ("queue_depth * on() queue_depth", "execution")])
async def test_prometheus_own_refusals_are_permanent(target: PrometheusTarget, query: str, reason: str) -> None:
    """A query that Prometheus cannot parse or execute will not get better; its own words are kept."""
    with pytest.raises(PermanentError, match="Prometheus refused") as caught:
        await Query(query=query).read(target, looking())
    assert caught.value.reason == reason


async def test_a_variable_selects_exactly_its_value(target: PrometheusTarget) -> None:
    """A value with quotes and regular expression characters finds the one series that has it, also after =~."""
    for operator in ("=", "=~"):
        query = f"queue_depth{{pod{operator}$pod}}"
        evidence = await Query(query=query, variables={"pod": 'a"b\\.*'}).read(target, looking())
        assert evidence["value"] == 7.0
    evidence = await Query(query="queue_depth{pod=~$pod}", variables={"pod": "minting-.*"}).read(target, looking())
    assert evidence["count"] == 0


async def test_no_value_leaves_its_quotes(target: PrometheusTarget) -> None:
    """Real Prometheus reads every hostile text back exactly as it was, so none became PromQL."""
    read = 0
    for payload in PAYLOADS:
        try:
            query = Query(query="$value", variables={"value": payload})
        except ValidationError:
            continue
        path = with_query("/api/v1/query", {"query": fill(query.query, query.variables)})
        answer = json.loads((await target.send("GET", path, headers={})).body)
        assert answer["status"] == "success", payload
        assert (answer["data"]["resultType"], answer["data"]["result"][1]) == ("string", payload)
        read += 1
    assert read > 300


def test_a_literal_pattern_matches_only_itself() -> None:
    """Quoted for RE2, each text matches itself and nothing else of the corpus."""
    texts = [
        payload for payload in PAYLOADS if len(payload) < 300 and not any(0xD800 <= ord(c) < 0xE000 for c in payload)
    ]
    for text in texts:
        pattern = re2.compile(literal_regex(text))
        assert [other for other in texts if pattern.fullmatch(other)] == [text]


@pytest.mark.parametrize(
    ("query", "variables", "message"),
    [
        ("up{pod=$pod}", {}, "not among the variables"),
        ("up", {"pod": "x"}, r"does not use the variable"),
        ('up{pod="$pod"}', {"pod": "x"}, "inside quotes"),
        ("up{pod='a-$pod'}", {"pod": "x"}, "inside quotes"),
        ("up{pod=~`$pod.*`}", {"pod": "x"}, "inside quotes"),
        ('up{pod="open}', {}, "not closed"),
        ("up # $pod", {"pod": "x"}, "does not use"),
        ("up{a=$a}", {"a": "\ud800"}, "unicode|Unicode|surrogate"),
        ("up{a=$a}", {"a": "x" * 2000}, "1024"),
        ("up{a=$a}", {"a b": "x"}, "pattern"),
    ],
)
def test_wrong_variables_are_refused_at_load(query: str, variables: dict[str, str], message: str) -> None:
    """Unknown, unused and quoted variables are found before anything runs, with what to write instead."""
    with pytest.raises(ValidationError, match=message):
        Query(query=query, variables=variables)


def test_quotes_and_dollars_that_mean_something_else_stay() -> None:
    """A dollar in a pattern and an escaped quote are the author's own text and are left alone."""
    query = 'up{a=~"x$", b="\\"", c=$c, d!~ $c} # $c'
    assert Query(query=query, variables={"c": "1.0"}).query == query
    assert fill(query, {"c": "1.0"}) == 'up{a=~"x$", b="\\"", c="1.0", d!~ "1\\\\.0"} # $c'


def test_strings_are_ascii() -> None:
    """Everything but printable ASCII is escaped, so no server can read it in two ways."""
    assert promql_string('a"\\\n\x00ü😀') == '"a\\"\\\\\\u000a\\u0000\\u00fc\\U0001f600"'


@pytest.mark.parametrize("status", [422, 503])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("timeout", TemporaryError),
        ("unavailable", TemporaryError),
        ("internal", TemporaryError),
        ("execution", PermanentError),
        ("x-unheard-of", PermanentError),
    ],
)
async def test_error_types_have_their_word(status: int, kind: str, error: type[Exception]) -> None:
    """The error type of Prometheus' API decides whether trying again helps; reasons come from a fixed list."""
    body = json.dumps({"status": "error", "errorType": kind, "error": "because"}).encode()
    async with wire(lambda request: reply(status, body)) as it:
        target = PrometheusTarget(base_url=it.url)
        with pytest.raises(error, match="because") as caught:
            await Query(query="up").read(target, looking())
        await target.close()
    assert getattr(caught.value, "reason", "") in {kind, "refused"}
    assert getattr(caught.value, "reason", "") != "x-unheard-of"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(200, b"<html>", "text/html"), PermanentError),
        (reply(200, b'{"status":"success","data":{}}'), PermanentError),
        (reply(200, b'{"status":"success","data":{"resultType":"vector","result":[{"metric":1}]}}'), PermanentError),
        (reply(302, b"", extra="Location: /login\r\n"), PermanentError),
        (reply(401, b""), PermanentError),
        (reply(404, b""), PermanentError),
        (reply(429, b""), TemporaryError),
        (reply(502, b""), TemporaryError),
        (Wire.HANG, TemporaryError),
        (None, TemporaryError),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{", TemporaryError),
    ],
)
async def test_what_is_not_prometheus_is_no_evidence(answer: bytes | None, error: type[Exception]) -> None:
    """Log-in pages, proxies, silence and nonsense are errors with a word, never a value."""
    async with wire(lambda request: answer) as it:
        target = PrometheusTarget.model_validate({"base_url": it.url, "timeout": "100ms"})
        with pytest.raises(error):
            await Query(query="up").read(target, looking())
        await target.close()


async def test_a_huge_result_is_refused() -> None:
    """A result beyond max_response is refused with what to do, instead of being read in part."""
    async with wire(lambda request: reply(200, b" " * 5000)) as it:
        target = PrometheusTarget.model_validate({"base_url": it.url, "max_response": 1000})
        with pytest.raises(PermanentError, match="aggregate"):
            await Query(query="up").read(target, looking())
        await target.close()


async def test_warnings_are_kept() -> None:
    """A partial answer carries its warnings into the evidence."""
    body = b'{"status":"success","warnings":["store down"],"data":{"resultType":"vector","result":[]}}'
    async with wire(lambda request: reply(200, body)) as it:
        target = PrometheusTarget(base_url=it.url)
        assert (await Query(query="up").read(target, looking()))["warnings"] == ["store down"]
        await target.close()


async def test_a_refused_connection_is_temporary() -> None:
    """Prometheus is down: unknown for now."""
    target = PrometheusTarget(base_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TemporaryError, match="no connection"):
        await Query(query="up").read(target, looking())
    await target.close()
