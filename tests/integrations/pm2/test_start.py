"""Tests of the action pm2.start, with a real pm2 daemon."""

from __future__ import annotations

import pytest

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.pm2.start import Start
from remediator.integrations.pm2.stop import Stop
from tests.integrations.pm2.daemon import daemon
from tests.integrations.support import acting


async def test_what_runs_is_not_restarted() -> None:
    """`pm2 start` on a running process would restart it; only the stopped instance is started."""
    it = daemon()
    with it.process() as name:
        it.pm2("scale", name, "2")
        first, second = it.list(name)
        it.pm2("stop", str(second["pm_id"]))
        action = Start(process=name)
        change = Change.from_json((await action.diff(it.target(), acting())).as_json())
        assert change.before == {"stopped": [second["pm_id"]]}
        with pytest.raises(TemporaryError, match="not online yet"):
            await action.verify(it.target(), change, acting())
        await action.apply(it.target(), change, acting())
        await action.verify(it.target(), change, acting())
        assert it.list(name)[0]["pid"] == first["pid"]
        starts = it.starts(name)
        await action.apply(it.target(), change, acting())
        assert it.starts(name) == starts, "done again after a crash it starts nothing"
        inverse = action.inverse(change)
        assert inverse == Stop(process=name, instances=[second["pm_id"]])
        assert action.inverse(await action.diff(it.target(), acting())) is None


async def test_a_process_that_fails_when_it_starts_is_no_success() -> None:
    """An instance that ends as errored fails the step for good."""
    it = daemon()
    (it.home / "wrong.sh").write_text("exit 1")
    name = it.new(str(it.home / "wrong.sh"), "--interpreter", "/bin/sh", "--max-restarts", "1")
    for _ in range(200):
        if it.list(name)[0]["pm2_env"]["status"] == "errored":
            break
    action = Start(process=name)
    change = await action.diff(it.target(), acting())
    assert not change.empty
    with pytest.raises(PermanentError, match="fails when it starts"):
        await action.verify(it.target(), change, acting())
    it.pm2("delete", name)
