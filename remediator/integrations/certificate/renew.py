"""``certificate.renew``: renew a certificate, and see that the new one is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import format_instant
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Ended, Interrupted, execute
from remediator.integrations.certificate._seen import named, same, see
from remediator.integrations.certificate.target import CertificateTarget, Name, Renewal

_OUTPUT = 64 * 1024
_LOOKS = 5
"""Handshakes that must all show the new certificate: old workers, and other servers behind one address, show theirs."""


class Renew(Action[CertificateTarget]):
    """Runs the command that the settings name for this certificate, after its dry run if there is one.

    It is done when a certificate that is good for longer is served and trusted, whatever the command said.
    """

    effect: ClassVar[Effect] = Effect.PROBE
    literal: ClassVar[frozenset[str]] = frozenset({"days"})

    certificate: Name = Field(description="The certificate, by its name in the settings of the target.")
    days: int = Field(
        default=30, ge=0, le=3650, description="Nothing to do if it is good for this many days or more, and trusted."
    )

    def needs(self) -> Mapping[str, str]:
        """The certificate must be permitted."""
        return {"certificates": self.certificate}

    def subject(self) -> str:
        """The certificate."""
        return f"certificate/{self.certificate}"

    def _renewal(self, target: CertificateTarget) -> Renewal:
        renewal = named(target, self.certificate).renew
        if renewal is None:
            raise PermanentError(f'the settings do not say how to renew "{self.certificate}"', reason="renew")
        return renewal

    async def diff(self, target: CertificateTarget, context: ActionContext) -> Change:
        """The certificate that is served now, and the command. Raises TemporaryError, PermanentError."""
        renewal = self._renewal(target)
        seen = await see(target, self.certificate)
        before = {"fingerprint": seen.fingerprint, "not_after": format_instant(seen.not_after)}
        if not seen.problem and seen.not_after - context.clock.now() >= self.days * 86400:
            return Change(summary=f"{self.certificate} is good for {self.days} days", before=before, after=before)
        return Change(
            summary=f"renew {self.certificate}, good until {before['not_after']}",
            before=before,
            after={"argv": list(renewal.argv), "dry_run": renewal.dry_run, "directory": target.directory},
            volatile={"not_after": seen.not_after},
        )

    async def apply(self, target: CertificateTarget, change: Change, context: ActionContext) -> Outcome:
        """Try it, then run it to its end. Raises Interrupted (unknown) when the renewal was ended or killed."""
        renewal = self._renewal(target)
        if change.after != {"argv": list(renewal.argv), "dry_run": renewal.dry_run, "directory": target.directory}:
            raise PermanentError("the command is no longer the one that was shown", reason="changed")
        if renewal.dry_run is not None:
            try:
                tried = await self._run(target, renewal.dry_run, renewal.timeout, context)
            except Interrupted as error:
                raise TemporaryError(f"the dry run did not end: {error}", reason="dry_run") from None
            if tried.code != 0:
                raise PermanentError(f"the dry run exited with {tried.code}: {_last(tried)}", reason="dry_run")
        context.check_deadline()
        ended = await self._run(target, renewal.argv, renewal.timeout, context)
        if ended.code != 0:
            raise PermanentError(f"the renewal exited with {ended.code}: {_last(ended)}", reason="exit_code")
        return Outcome(
            summary=f"the renewal of {self.certificate} exited with 0",
            data={"stdout": ended.stdout, "stderr": ended.stderr},
        )

    async def _run(
        self, target: CertificateTarget, argv: Sequence[str], seconds: float, context: ActionContext
    ) -> Ended:
        environment, secrets = target.surroundings()
        return await execute(
            argv,
            directory=target.directory,
            environment={**environment, "REMEDIATOR_RUN_ID": context.run_id, "REMEDIATOR_KEY": context.key},
            seconds=seconds,
            limit=_OUTPUT,
            secrets=secrets,
        )

    async def verify(self, target: CertificateTarget, change: Change, context: ActionContext) -> None:
        """Returns when another certificate is served, good for longer and trusted. Raises TemporaryError until then."""
        for _ in range(_LOOKS if named(target, self.certificate).address else 1):
            await self._is_new(target, change)

    async def _is_new(self, target: CertificateTarget, change: Change) -> None:
        seen = await see(target, self.certificate)
        if same(seen, change.before):
            raise TemporaryError(f"{self.certificate}: still the old certificate is served", reason="not_served")
        if seen.not_after <= float(change.volatile["not_after"]):
            raise PermanentError(f"{self.certificate}: the new one is good for no longer", reason="not_longer")
        if seen.problem:
            raise PermanentError(f"{self.certificate}: the new one is refused: {seen.problem}", reason="not_trusted")

    async def reconcile(self, target: CertificateTarget, change: Change, context: ActionContext) -> Happened:
        """No if the old certificate is served, yes if one that is good for longer is, else unknown."""
        seen = await see(target, self.certificate)
        if same(seen, change.before):
            return Happened.NO
        return Happened.YES if seen.not_after > float(change.volatile["not_after"]) else Happened.UNKNOWN


def _last(ended: Ended) -> str:
    return (ended.stderr or ended.stdout).strip()[-500:]
