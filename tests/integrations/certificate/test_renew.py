"""Tests of the action certificate.renew, against a real nginx that serves what was renewed."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import ActionContext, Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Interrupted
from remediator.integrations.certificate.renew import Renew
from remediator.integrations.certificate.target import CertificateTarget
from tests.integrations.certificate.nginx import nginx
from tests.integrations.support import HandClock, acting

WWW = Renew(certificate="www")


def _now(clock: HandClock | None = None) -> ActionContext:
    return acting(clock or HandClock(time.time()), deadline=60)


async def _verified(target: CertificateTarget, change: Change) -> None:
    for _ in range(100):
        try:
            await WWW.verify(target, change, _now())
            return
        except TemporaryError:
            await asyncio.sleep(0.05)
    await WWW.verify(target, change, _now())


async def test_renewed_and_served() -> None:
    """The step is done when the new certificate is served, and then there is nothing left to do."""
    with nginx(days=10) as server:
        server.authority.issue("new", days=90)
        target = server.target(renew=server.renewal())
        change = Change.from_json(json.loads(json.dumps((await WWW.diff(target, _now())).as_json())))
        assert await WWW.reconcile(target, change, _now()) is Happened.NO
        await WWW.apply(target, change, _now())
        await _verified(target, change)
        assert await WWW.reconcile(target, change, _now()) is Happened.YES
        assert (await WWW.diff(target, _now())).empty
        assert server.count() == 1
        assert WWW.effect_on(target) is Effect.PROBE
        assert WWW.inverse(change) is None


async def test_a_command_that_only_says_so_is_not_believed() -> None:
    """Exit status 0 without another certificate on the wire is not done: files alone, or nothing at all."""
    with nginx(days=10) as server:
        server.authority.issue("new", days=90)
        for renew in (server.renewal(reload=False), {"argv": ["true"]}):
            target = server.target(renew=renew)
            change = await WWW.diff(target, _now())
            await WWW.apply(target, change, _now())
            with pytest.raises(TemporaryError, match="still the old"):
                await WWW.verify(target, change, _now())


async def test_a_new_certificate_that_is_worse_is_a_failure() -> None:
    """One that is good for no longer, and one that clients refuse, end the step."""
    for more, said in (({"days": 5}, "no longer"), ({"days": 90, "host": "other.example.test"}, "is refused")):
        with nginx(days=10) as server:
            server.authority.issue("new", **more)
            target = server.target(renew=server.renewal())
            change = await WWW.diff(target, _now())
            await WWW.apply(target, change, _now())
            with pytest.raises(PermanentError, match=said):
                await _verified(target, change)


async def test_t10_a_dry_run_renews_nothing_and_comes_first(tmp_path: Path) -> None:
    """Trap T10: a dry run is a precondition and never the renewal; what it cannot do is not begun."""
    for word in ("--dry-run", "--staging", "--test-cert"):
        with pytest.raises(ValidationError, match="renews nothing"):
            CertificateTarget.model_validate(
                {"certificates": {"www": {"file": "/x", "renew": {"argv": ["certbot", "renew", word]}}}}
            )
    with nginx(days=10) as server:
        server.authority.issue("new", days=90)
        said = "echo the challenge failed >&2; exit 1"
        target = server.target(renew={**server.renewal(), "dry_run": ["/bin/sh", "-c", said]})
        with pytest.raises(PermanentError, match="the challenge failed") as caught:
            await WWW.apply(target, await WWW.diff(target, _now()), _now())
        assert caught.value.reason == "dry_run"
        assert server.count() == 0
        target = server.target(renew={**server.renewal(), "dry_run": ["true"]})
        change = await WWW.diff(target, _now())
        await WWW.apply(target, change, _now())
        await _verified(target, change)
        assert server.count() == 1


async def test_a_licence_that_runs_out_during_the_dry_run_renews_nothing() -> None:
    """The deadline is asked after the dry run, which may take long."""
    with nginx(days=10) as server:
        target = server.target(renew={**server.renewal(), "dry_run": ["true"]})
        clock = HandClock(time.time())
        context = _now(clock)
        change = await WWW.diff(target, context)
        clock.at += 61
        with pytest.raises(TemporaryError, match="ran out"):
            await WWW.apply(target, change, context)
        assert server.count() == 0


async def test_a_renewal_that_fails_or_hangs() -> None:
    """Its own word that it failed is final; one that had to be ended is unknown; a hung dry run did nothing."""
    with nginx(days=10) as server:
        target = server.target(renew={"argv": ["/bin/sh", "-c", "echo rate limited >&2; exit 1"]})
        with pytest.raises(PermanentError, match="rate limited"):
            await WWW.apply(target, await WWW.diff(target, _now()), _now())
        target = server.target(renew={"argv": ["sleep", "30"], "timeout": "300ms"})
        with pytest.raises(Interrupted):
            await WWW.apply(target, await WWW.diff(target, _now()), _now())
        target = server.target(renew={**server.renewal(), "dry_run": ["sleep", "30"], "timeout": "300ms"})
        with pytest.raises(TemporaryError, match="dry run"):
            await WWW.apply(target, await WWW.diff(target, _now()), _now())
        assert server.count() == 0


async def test_it_runs_where_and_as_the_settings_say(tmp_path: Path) -> None:
    """Directory, environment and secrets are those of the settings, and a secret is not in what is kept."""
    token = tmp_path / "token"
    token.write_text("canary-token")
    with nginx(days=10) as server:
        script = 'pwd; echo "$DNS_TOKEN $EMAIL $REMEDIATOR_KEY"; env | grep -c PYTEST'
        target = server.target(
            renew={"argv": ["/bin/sh", "-c", f"{script}; true"]},
            environment={"EMAIL": "ops@example.test"},
            environment_files={"DNS_TOKEN": str(token)},
        )
        outcome = await WWW.apply(target, await WWW.diff(target, _now()), _now())
    assert outcome.data["stdout"].splitlines() == [
        str(server.folder), "[redacted] ops@example.test run-1.step0", "0",
    ]  # fmt: skip


async def test_what_cannot_be_renewed_or_was_not_approved() -> None:
    """Without a command nothing can be renewed, and another command than the one that was shown is not run."""
    with nginx(days=10) as server:
        with pytest.raises(PermanentError, match="do not say how"):
            await WWW.diff(server.target(), _now())
        change = await WWW.diff(server.target(renew={"argv": ["true"]}), _now())
        with pytest.raises(PermanentError, match="no longer"):
            await WWW.apply(server.target(renew=server.renewal()), change, _now())
        assert server.count() == 0


async def test_days_decide_whether_there_is_something_to_do() -> None:
    """A certificate that is good for long enough is left alone, unless clients refuse it."""
    with nginx(days=40) as server:
        target: Any = server.target(renew=server.renewal())
        assert (await WWW.diff(target, _now())).empty
        assert not (await Renew(certificate="www", days=41).diff(target, _now())).empty
        assert not (await WWW.diff(server.target(renew=server.renewal(), ca_file=None), _now())).empty


async def test_a_server_that_is_gone_is_not_renewed_blindly() -> None:
    """Without seeing the certificate nothing is begun."""
    with nginx(days=10) as server:
        target = server.target(renew=server.renewal())
        server.server.kill(signal.SIGTERM)
        server.server.wait()
        with pytest.raises(TemporaryError):
            await WWW.diff(target, _now())
        assert server.count() == 0
