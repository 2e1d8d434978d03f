"""No text that a label may hold gets past any action: it is refused, or it leaves as the plan says and as nothing else.

The places where a text can stand are found in the actions themselves (places.py), the texts are in corpus.py, and what
left is what came to the real system, read by the rules of its own protocol.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from pydantic import ValidationError

from remediator.action import Action, Change
from remediator.errors import ActionError, PermanentError
from remediator.integrations._client import Unanswered
from remediator.integrations.command.run import Run
from remediator.integrations.command.target import CommandTarget
from remediator.integrations.http.get import Get
from remediator.integrations.http.post import Post
from remediator.integrations.http.target import HttpTarget
from remediator.integrations.kubernetes.deployment import Deployment
from remediator.integrations.kubernetes.scale import Scale
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.arrangements import Stage, stages
from tests.integrations.corpus import PAYLOADS
from tests.integrations.kubernetes.apiserver import api_server
from tests.integrations.places import Place, places
from tests.integrations.support import WIRES, Received, acting, looking, wire

STAGES = stages()
HARMLESS = ("marker", "/marker", "#marker", "marker@example.com", "https://marker.example.com", "a.marker", "7")
"""Texts of which one is fine in almost any place; what leaves with it shows how everything else must look."""


def _stored(change: Change) -> Change:
    """The change as it comes back from the store."""
    return Change.from_json(json.loads(json.dumps(change.as_json())))


# Every string parameter of every action, generically.


def _request(received: Received) -> list[Any]:
    """An HTTP request as data: method, path, query, names of headers, and its body, as JSON where it is."""
    verb, target, version = received.line.decode("ascii").split(" ")
    path, _, query = target.partition("?")
    body: Any = received.body.decode()
    if "json" in received.headers.get("content-type", ""):
        body = json.loads(received.body)
    pairs = [list(pair) for pair in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))]
    return [verb, version, path, pairs, sorted(received.headers), body]


def _left(stage: Stage) -> list[Any] | None:
    """What came to the system since the last time; None where nobody can tell."""
    if stage.left is not None:
        return stage.left()
    if not WIRES:
        return None
    found = [_request(request) for each in WIRES for request in each.received]
    for each in WIRES:
        each.received.clear()
    return found


def _leaves(data: Any) -> Iterator[str]:
    """Every string in JSON data, names of fields included, in order."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from (key, *_leaves(value))
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value)


def _skeleton(data: Any) -> Any:
    """The shape of JSON data, without its strings and numbers."""
    if isinstance(data, dict):
        return {"object": [_skeleton(value) for value in data.values()]}
    if isinstance(data, list):
        return [_skeleton(value) for value in data]
    return type(data).__name__


def _told(text: str, shown: list[str]) -> bool:
    """Whether the plan holds ``text``: as it is, line by line, or its beginning, where a system takes no longer one."""
    if any(text in one for one in shown) or all(any(line in one for one in shown) for line in text.split("\n")):
        return True
    return len(text) > 100 and "…" in text[-100:] and any(text[: text.rindex("…")].strip() in one for one in shown)


class _Trial:
    """One action on its stage: what became of every text in every place."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.ends: Counter[str] = Counter()

    async def plan(self, make: Any, text: str) -> tuple[Action[Any], Change] | None:
        """The action and its change, or None where the text is refused: by its form, its permission, or its meaning."""
        stage = self.stage
        try:
            action = type(stage.action).model_validate(make(text))
        except (ValidationError, UnicodeEncodeError):
            # Half a surrogate pair is no text at all, and the intake refuses every alert that holds one.
            self.ends["form"] += 1
            return None
        if action == stage.action or stage.target.refusal(self.name, action.needs()):
            self.ends["permission"] += 1
            return None
        try:
            change = await action.diff(stage.target, acting())
        except ActionError:
            self.ends["meaning"] += 1
            return None
        return (action, change)

    async def carried(self, planned: tuple[Action[Any], Change] | None) -> list[Any] | None:
        """What left when the plan was carried out; None where there is none, or where it cannot be seen."""
        if planned is None or _left(self.stage) is None:
            return None
        action, change = planned
        if not change.empty:
            try:
                await action.apply(self.stage.target, _stored(change), acting())
            except (ActionError, Unanswered):
                self.ends["not carried out"] += 1
        return _left(self.stage)

    async def place(self, place: Place) -> None:
        """Every text in one place; around a text that is there already, some of each kind."""
        where, make, texts = place
        # Twice, because the first may make what the second changes.
        usual = [left for text in HARMLESS if (left := await self.carried(await self.plan(make, text)))][:2]
        self.ends["harmless"] += len(usual)
        for text in texts:
            planned = await self.plan(make, text)
            left = await self.carried(planned)
            if planned is None:
                continue
            change = _stored(planned[1])
            if left is None:
                self.ends["planned"] += 1
            elif left:
                self.ends["left as planned"] += 1
                self.compare(where, text, left, usual, list(_leaves([change.as_json()])))

    def compare(self, where: str, text: str, left: list[Any], usual: list[Any], shown: list[str]) -> None:
        """Nothing is more, less or elsewhere than usual, and what is different stands in the plan, byte for byte."""
        if usual:
            shapes = [_skeleton(each) for each in usual]
            assert _skeleton(left) in shapes, f"{where}: {text!r} changed the shape of what left: {left}"
        known = set(_leaves(usual))
        for each in _leaves(left):
            if usual and each not in known:
                assert _told(each, shown), f"{where}: {each[:200]!r} left and is not in the plan"


@pytest.mark.parametrize("name", sorted(STAGES))
async def test_no_text_gets_past_any_action(name: str, tmp_path: Path) -> None:
    """Every text in every place is refused, or what leaves has the usual shape and holds exactly what the plan says."""
    async with STAGES[name](tmp_path) as stage:
        trial = _Trial(name, stage)
        for place in places(stage.action):
            await trial.place(place)
        if not trial.ends["left as planned"] + trial.ends["harmless"]:
            assert stage.effects() == 0, "everything was refused, and yet something happened"


# What the three oldest ways out look like in detail, and the probes beside them.

ALLOWED_HEADERS = {
    *("host", "accept", "accept-encoding", "user-agent", "connection"),
    *("content-type", "content-length", "idempotency-key"),
}


def _check_wire(request: Received, method: bytes, after: dict[str, Any]) -> None:
    """The bytes on the wire are the planned request and nothing besides."""
    verb, target, version = request.line.split(b" ")
    path, _, query = target.decode("ascii").partition("?")
    assert (verb, version) == (method, b"HTTP/1.1")
    assert after["url"].endswith(path)
    assert path.startswith("/")
    assert dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))) == after["query"]
    assert set(request.headers) <= ALLOWED_HEADERS
    assert (json.loads(request.body) if request.body else None) == after["json"]
    assert unquote(path).count("/") == path.count("/")
    assert ".." not in unquote(path).split("/")


def test_the_corpus_is_large() -> None:
    """More than 300 different hostile texts."""
    assert len(PAYLOADS) >= 300


@pytest.mark.parametrize(
    "place",
    [
        lambda text: {"path": text},
        lambda text: {"path": f"/admin/{text}/pause"},
        lambda text: {"path": "/x", "query": {"q": text}},
        lambda text: {"path": "/x", "query": {text: "v"}},
        lambda text: {"path": "/x", "json": {"name": text, text: [text]}},
    ],
    ids=["path", "segment", "query value", "query name", "json"],
)
async def test_no_text_gets_past_http(place: Any) -> None:
    """Every text is refused, or the request is byte for byte the one in the change; the same for the probe."""
    sent = 0
    async with wire() as it:
        target = HttpTarget(base_url=it.url)
        for payload in PAYLOADS:
            it.received.clear()
            try:
                action = Post.model_validate(place(payload))
            except ValidationError:
                continue
            change = await action.diff(target, acting())
            assert change.after["json"] == place(payload).get("json")
            assert change.after["query"] == place(payload).get("query", {})
            await action.apply(target, _stored(change), acting())
            if action.body is None:
                await Get(path=action.path, query=action.query).read(target, looking())
                _check_wire(it.received.pop(), b"GET", dict(change.after))
            (request,) = it.received
            _check_wire(request, b"POST", dict(change.after))
            sent += 1
        await target.close()
    assert sent > 0


async def test_no_text_gets_past_kubernetes(tmp_path: Path) -> None:
    """A text is a name that Kubernetes knows, and then exactly that object is asked for, or it is refused."""
    asked = 0
    async with api_server() as api:
        target = KubernetesTarget(kubeconfig=api.kubeconfig(tmp_path))
        for payload in PAYLOADS:
            for where in ({"namespace": payload, "deployment": "x"}, {"namespace": "x", "deployment": payload}):
                api.calls.clear()
                try:
                    action = Scale.model_validate({**where, "at_least": 2, "max": 3})
                    probe = Deployment(namespace=where["namespace"], name=where["deployment"])
                except ValidationError:
                    continue
                with pytest.raises(PermanentError, match="does not exist"):
                    await action.diff(target, acting())
                with pytest.raises(PermanentError, match="does not exist"):
                    await probe.read(target, looking())
                assert [(call.namespace, call.name) for call in api.calls] == [tuple(where.values())] * 2
                asked += 1
        await target.close()
    assert 0 < asked < 60


async def test_no_text_gets_past_a_command(tmp_path: Path) -> None:
    """A text arrives as exactly its own argument, with no shell and no option, or it is refused."""
    ran = 0
    target = CommandTarget.model_validate(
        {
            "directory": str(tmp_path),
            "commands": {
                "show": {
                    "argv": ["printf", "%s\\037", "{free}", "--x={free}", "{free}!"],
                    "parameters": {"free": {"pattern": ".*"}},
                },
                "plain": {"argv": ["true", "{word}"], "parameters": {"word": {}}},
            },
        }
    )
    for payload in PAYLOADS:
        with pytest.raises((ValidationError, PermanentError)):
            await Run.model_validate({"command": f"show{payload}" if payload else ""}).diff(target, acting())
        with pytest.raises(PermanentError, match="no parameter"):
            await Run(command="plain", parameters={"word": "x", f" {payload}": "x"}).diff(target, acting())
        try:
            plain = await Run(command="plain", parameters={"word": payload}).diff(target, acting())
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@-]*", payload)
            assert plain.after["argv"] == ["true", payload]
        except PermanentError:
            pass
        action = Run(command="show", parameters={"free": payload})
        try:
            change = await action.diff(target, acting())
        except PermanentError:
            continue
        assert change.after["argv"][2:] == [payload, f"--x={payload}", f"{payload}!"]
        outcome = await action.apply(target, _stored(change), acting())
        assert outcome.data["stdout"].split("\x1f") == [payload, f"--x={payload}", f"{payload}!", ""]
        assert not payload.startswith("-")
        ran += 1
    assert ran > 200
    assert list(tmp_path.iterdir()) == []
