"""Look: the probes of a rule, the conditions over what they saw, and what a no means."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from remediator.action import canonical_json
from remediator.clock import format_duration
from remediator.crashpoint import crashpoint
from remediator.errors import ActionError, InputError
from remediator.expression import Expression, ExpressionError
from remediator.moves import Moves
from remediator.planning import Plan, environment, make_probe, waves
from remediator.probe import Evidence, ProbeContext
from remediator.redact import redact
from remediator.rule import ProbeCall
from remediator.run import State

_log = structlog.get_logger("remediator.engine")


class Looking(Moves):
    """The room in which evidence is taken."""

    async def _probe(self, calls: Sequence[ProbeCall]) -> None:
        if not calls:
            return
        # What was seen before is no answer for a probe that reads another one now.
        found: dict[str, Any] = {}
        for wave in waves(calls):
            self.progress["evidence"] = found
            seen = await asyncio.gather(*(self._look_at(call) for call in wave))
            found = {**found, **{evidence.probe: evidence.as_json() for evidence in seen}}
        self.progress["evidence"] = {call.id: found[call.id] for call in calls}
        crashpoint("engine.after_probes")

    async def _look_at(self, call: ProbeCall) -> Evidence:
        target = self.world.targets.get(call.target)
        at = self.now()

        def unknown(why: str) -> Evidence:
            return Evidence(probe=call.id, uses=call.uses, target=call.target, at=at, ok=False, error=why)

        if target is None:
            return unknown(f'no target is named "{call.target}"')
        try:
            probe = make_probe(call, self.known(), self.world.registry)
            refusal = target.refusal(call.uses, probe.needs())
            if refusal is not None:
                return unknown(refusal)
            async with asyncio.timeout(call.timeout):
                context = ProbeContext(run_id=self.run.id, clock=self.clock, ledger=self.store)
                value = redact(dict(await probe.read(target, context)))
            canonical_json(value)
        except TimeoutError:
            return unknown(f"no answer within {format_duration(call.timeout)}")
        except (ActionError, InputError) as error:
            return unknown(redact(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes; it is logged and classified here.
            # A probe with a bug has seen nothing; the conditions that read it will say no.
            _log.exception("a probe failed in a way it should not", probe=call.id)
            return unknown(f"bug in {call.uses}: {type(error).__name__}")
        return Evidence(probe=call.id, uses=call.uses, target=call.target, at=at, ok=True, value=value)

    def known(self) -> dict[str, Any]:
        """What expressions and placeholders can see now."""
        rule = self.world.rules.get(self.run.rule)
        severity = self.world.severity(rule, self.labels) if rule else self.labels.get("severity", "")
        return environment(self.incident, severity, self.progress, now=self.now())

    async def _conditions(self, plan: Plan) -> None:
        if self.acted or self.progress.get("at"):
            return
        for reason, expression in (("condition", plan.condition), ("if", plan.if_)):
            if expression is not None:
                answer, message = self._tell(expression)
                if not answer:
                    await self.stop(State.DENIED, self._no(reason, answer), message)

    def _no(self, reason: str, answer: bool | None) -> str:
        """The reason of a run that is denied: its rule said no, or nobody could see, which is for people to know."""
        blind = answer is None and any(not seen["ok"] for seen in self.progress.get("evidence", {}).values())
        return "no_evidence" if blind else reason

    def _ask(self, expression: Expression) -> tuple[bool, str]:
        answer, why = self._tell(expression)
        return bool(answer), why

    def _tell(self, expression: Expression) -> tuple[bool | None, str]:
        """Yes, no, or None where it cannot be told; and why not yes."""
        try:
            answer = expression.evaluate(self.known())
        except ExpressionError as error:
            return None, f"cannot be told, which is a no: {error} (in {expression.source})"
        return answer, "" if answer else f"not so: {expression.source}"
