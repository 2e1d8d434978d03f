"""Tests of the action redis.quarantine_list, against a real server and a real cluster."""

from __future__ import annotations

import json

import pytest

from remediator.action import Change, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis._names import quarantine_name
from remediator.integrations.redis.quarantine_list import QuarantineList
from remediator.integrations.redis.target import RedisTarget
from tests.integrations.redis.servers import one_cluster, one_server, target_of
from tests.integrations.support import acting
from tests.redis import RedisServer

WAIT, ACTIVE, WAITING = (f"bull:card-generation:{name}" for name in ("wait", "active", "waiting"))
ASIDE = f"{{{WAIT}}}:quarantine:run-1.step0"


@pytest.fixture
def server() -> RedisServer:
    """The shared server with three waiting jobs and one that is being worked on."""
    found = one_server()
    found.tell("FLUSHALL")
    found.tell("RPUSH", WAIT, "1", "2", "3")
    found.tell("RPUSH", ACTIVE, "0")
    return found


async def _do(action: QuarantineList, target: RedisTarget) -> QuarantineList:
    """Act, and return the inverse as it comes back from the store."""
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    await action.apply(target, change, acting())
    stored = (action.inverse(change) or action).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return QuarantineList.model_validate(json.loads(json.dumps(stored)))


async def test_aside_and_back(server: RedisServer) -> None:
    """All jobs go aside in order, with a time to live, and come back without one; DEL is never sent."""
    target = target_of(server)
    server.tell("CONFIG", "RESETSTAT")
    assert QuarantineList(key=WAIT).needs_approval(target)
    back = await _do(QuarantineList(key=WAIT), target)
    assert not back.needs_approval(target)
    assert server.tell("EXISTS", WAIT) == ":0\r\n"
    assert server.tell("LRANGE", ASIDE, "0", "-1").split("\r\n")[2:7:2] == ["1", "2", "3"]
    assert 604_000_000 < int(server.tell("PTTL", ASIDE)[1:]) <= 604_800_000
    await _do(back, target)
    assert server.tell("LRANGE", WAIT, "0", "-1").split("\r\n")[2:7:2] == ["1", "2", "3"]
    assert server.tell("PTTL", WAIT) == ":-1\r\n"
    assert (await back.diff(target, acting())).empty
    stats = server.tell("INFO", "commandstats")
    assert "cmdstat_del" not in stats
    assert "cmdstat_unlink" not in stats


async def test_t16_jobs_that_run_and_lists_that_never_exist(server: RedisServer) -> None:
    """Trap T16: Bull's list is "wait", not "waiting"; "active" holds running jobs and is left alone unless told."""
    permit = {"writable_keys": [WAIT, ACTIVE, WAITING]}
    target = target_of(server, permit=permit)
    with pytest.raises(PermanentError, match=f'in "{WAIT}"') as misnamed:
        await QuarantineList(key=WAITING).diff(target, acting())
    assert misnamed.value.reason == "misnamed"
    with pytest.raises(PermanentError, match="being worked on") as running:
        await QuarantineList(key=ACTIVE).diff(target, acting())
    assert running.value.reason == "running_jobs"
    assert not (await QuarantineList(key=ACTIVE, running=True).diff(target, acting())).empty
    assert server.tell("LLEN", ACTIVE) == ":1\r\n"


async def test_a_list_that_moves_is_not_stuck(server: RedisServer) -> None:
    """A worker that takes a job between look and act keeps its queue."""
    target = target_of(server)
    action = QuarantineList(key=WAIT)
    change = await action.diff(target, acting())
    server.tell("LPOP", WAIT)
    with pytest.raises(TemporaryError, match="not stuck"):
        await action.apply(target, change, acting())
    assert server.tell("LLEN", WAIT) == ":2\r\n"


async def test_new_jobs_are_not_mixed_with_old_ones(server: RedisServer) -> None:
    """When jobs have come in under the old name, or the list aside is another one, nothing is put back."""
    target = target_of(server)
    back = await _do(QuarantineList(key=WAIT), target)
    server.tell("RPUSH", WAIT, "new")
    with pytest.raises(PermanentError) as caught:
        await back.diff(target, acting())
    assert caught.value.reason == "changed"
    server.tell("DEL", WAIT)
    server.tell("LPOP", ASIDE)
    with pytest.raises(PermanentError, match="holds 2 jobs"):
        await back.diff(target, acting())
    with pytest.raises(PermanentError, match="not where"):
        await QuarantineList(key=WAIT, restore=ACTIVE).diff(target, acting())


async def test_an_empty_list_is_nothing_to_do(server: RedisServer) -> None:
    """Nothing is put aside where nothing is, and what is no list is refused."""
    target = target_of(server)
    server.tell("DEL", WAIT, "jobs")
    change = await QuarantineList(key=WAIT).diff(target, acting())
    assert change.empty
    assert QuarantineList(key=WAIT).inverse(change) is None
    server.tell("SET", "jobs", "x")
    with pytest.raises(PermanentError, match="holds a string"):
        await QuarantineList(key="jobs").diff(target, acting())


async def test_a_crash_is_decided_by_looking(server: RedisServer) -> None:
    """Aside: it happened; still there: it did not; anything else is unknown."""
    target = target_of(server)
    action = QuarantineList(key=WAIT)
    change = await action.diff(target, acting())
    assert await action.reconcile(target, change, acting()) is Happened.NO
    await action.apply(target, change, acting())
    assert await action.reconcile(target, change, acting()) is Happened.YES
    server.tell("DEL", ASIDE)
    assert await action.reconcile(target, change, acting()) is Happened.UNKNOWN


async def test_the_longest_key_can_be_put_back(server: RedisServer) -> None:
    """Also a key as long as one may be comes back from where it is put aside."""
    key = "k" * 512
    server.tell("RPUSH", key, "1")
    target = target_of(server, permit={"writable_keys": [key]})
    await _do(await _do(QuarantineList(key=key), target), target)
    assert server.tell("LLEN", key) == ":1\r\n"


async def test_in_a_cluster_it_stays_on_its_node() -> None:
    """The name aside hashes to the same slot, also for a key that has a hash tag."""
    cluster = one_cluster()
    for node in cluster.nodes:
        node.tell("RPUSH", WAIT, "1")
    back = await _do(QuarantineList(key=WAIT), cluster.target())
    await _do(back, cluster.target())
    assert {node.tell("LLEN", WAIT)[:2] for node in cluster.nodes} == {":1", "-M"}


@pytest.mark.parametrize(
    ("key", "aside"),
    [("a", "{a}:quarantine:x"), ("{a}:b", "{a}:b:quarantine:x"), ("b{a}", "b{a}:quarantine:x")],
)
def test_the_name_aside_has_the_slot_of_the_key(key: str, aside: str) -> None:
    """Both names have the same hash slot, as the library computes it too."""
    from redis.crc import key_slot

    assert quarantine_name(key, "x") == aside
    assert key_slot(key.encode()) == key_slot(aside.encode())


@pytest.mark.parametrize("key", ["{}a", "a}", "{a", "a{}b"])
def test_a_key_with_other_braces_is_refused(key: str) -> None:
    """Where no name with the same slot can be made from the key, it is refused."""
    with pytest.raises(ValueError, match="brace"):
        quarantine_name(key, "x")
