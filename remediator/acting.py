"""Do one licensed thing and classify every way it can end; and say, after a crash, what an open licence means.

The contract of actions (action.py): TemporaryError and PermanentError mean "it certainly did not happen". Everything
else that escapes ``apply`` means "unknown", and the effect class decides: what cannot be seen and must not be
doubled goes to a person.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from remediator.action import Action, Change, Effect, Happened, Outcome, canonical_json, spends
from remediator.clock import format_duration
from remediator.crashpoint import crashpoint
from remediator.errors import ActionError, InputError, Lost, PermanentError, StoreUnavailable, TemporaryError
from remediator.moves import RECHECK, Ending, Moves, Stop
from remediator.placeholder import roots
from remediator.planning import make_action
from remediator.redact import redact
from remediator.rule import Step
from remediator.run import Run, State
from remediator.store import EffectRow, Licence, LicenceRequest

if TYPE_CHECKING:
    from remediator.preparing import Ready

_log = structlog.get_logger("remediator.engine")


_SETTLE_EVERY = 1.0
_RECORD_EVERY = 0.5


def sha256(text: str) -> str:
    """SHA-256 of a text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def roots_of(step: Step) -> frozenset[str]:
    """What the placeholders of a step look into."""
    return roots(step.with_)


def intent(request: LicenceRequest, licence: Licence) -> EffectRow:
    """The licence as the store wrote it."""
    return EffectRow(
        id=licence.effect_id,
        run_id=licence.run.id,
        step=request.step,
        attempt=request.attempt,
        epoch=licence.run.epoch,
        action=request.action,
        target=request.target,
        subject=request.subject,
        effect=request.effect,
        state="intent",
        change=request.change,
        outcome={},
        licensed_at=licence.run.updated_at,
        finished_at=None,
    )


async def act(line: Moves, ready: Ready, licence: Licence) -> None:
    """Use the licence once. Returns when the step is done; otherwise the run was moved and the advance ends."""
    index, started = ready.index, line.clock.monotonic()
    effect = line.effects[-1]
    context = line.context(index, effect.attempt)
    _quiet_from(line, effect, line.now())
    try:
        async with asyncio.timeout(ready.step.timeout):
            outcome = await ready.action.apply(ready.target, ready.change, context)
    except ActionError as error:
        await _conclude_failed(line, index, effect, error)
    except TimeoutError as error:
        await _unknown(line, ready, effect, error, f"no answer within {format_duration(ready.step.timeout)}")
    except asyncio.CancelledError:
        # A drain waits as long as it may before it cancels an effect: what is known is that nothing is known.
        _log.error("cancelled while acting; the outcome is unknown", action=ready.step.uses)
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes; it is logged and classified here.
        _log.exception("an action ended in a way it should not; the outcome is unknown", action=ready.step.uses)
        await _unknown(line, ready, effect, error, f"{type(error).__name__}: {error}")
    else:
        crashpoint("engine.after_apply")
        _count(line, ready.step.uses, "done", started)
        await _conclude_applied(line, ready, effect, outcome)
        await settle(line, ready)


def _count(line: Moves, action: str, outcome: str, started: float) -> None:
    line.engine.metrics.actions_total.labels(action, outcome).inc()
    line.engine.metrics.action_duration_seconds.labels(action).observe(line.clock.monotonic() - started)


async def _conclude_applied(line: Moves, ready: Ready, effect: EffectRow, outcome: Outcome) -> None:
    told = _told(ready.step.uses, outcome)
    verified = type(ready.action).verify is not Action.verify
    line.set_step(ready.index, state="applied" if verified else "done", outcome=told)
    follow = way_back(line, ready.index, ready.action, ready.change)
    with contextlib.suppress(ActionError):  # A figure; what happened is written down whatever becomes of it.
        if (spend := ready.action.spend(ready.target, ready.change)) is not None:
            line.engine.metrics.spend_lamports_total.labels(spend.payee).inc(spend.amount)
    _log.info("acted", action=ready.step.uses, target=ready.step.target, outcome=outcome.summary)
    # Where nothing is left to do, the outcome and the end of the steps are one commit.
    end = None if verified else line.after(ready.index)
    if end is None:
        await _record(line, effect, "done", told, State.RUNNING, "acted", outcome.summary, follow=follow)
        return
    await _record(line, effect, "done", told, *end, follow=follow)
    await _over(line, end)


def way_back(line: Moves, index: int, action: Action[Any], change: Change) -> Sequence[Run]:
    """Keep how a change that took place can be undone; and the run that will do so, where it is temporary."""
    inverse, written = action.inverse(change), inverse_of(line, index, action, change)
    if inverse is None or line.step(index).get("undoes") is not None:
        return ()
    if written is None:
        _log.warning("what undoes this change holds a secret, so it is not kept", action=line.script[index].uses)
        return ()
    line.set_step(index, inverse=written)
    return line.temporary(index, inverse.subject())


def inverse_of(line: Moves, index: int, action: Action[Any], change: Change) -> dict[str, Any] | None:
    """What would undo ``change``, as it is kept; None if nothing would, or if that holds a secret."""
    inverse = action.inverse(change)
    if inverse is None:
        return None
    written = inverse.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if line.step(index).get("masked") or redact(written) != written:
        return None
    return {"uses": name_of(inverse, action, line.script[index].uses), "with": written}


def name_of(inverse: Action[Any], action: Action[Any], uses: str) -> str:
    """The name of what undoes ``action``, which is named ``uses``: an action of the same integration, by its file."""
    if type(inverse) is type(action):
        return uses
    return f"{uses.partition('.')[0]}.{type(inverse).__module__.rpartition('.')[2]}"


def _told(uses: str, outcome: Outcome) -> dict[str, Any]:
    """An outcome as it is kept. What is no JSON is left out: the effect took place, and that must be written down."""
    told: dict[str, Any] = redact({"summary": outcome.summary, "data": dict(outcome.data)})
    try:
        canonical_json(told)
    except (TypeError, ValueError):
        _log.error("an action told something that is no JSON; it is left out", action=uses)
        return {"summary": str(told["summary"]), "data": {}}
    return told


async def _conclude_failed(
    line: Moves, index: int, effect: EffectRow, error: ActionError, state: str = "failed"
) -> NoReturn:
    if state == "failed":
        line.engine.metrics.actions_total.labels(line.script[index].uses, "failed").inc()
    told = redact({"summary": str(error), "reason": error.reason, "data": {}})
    line.set_step(index, state="waiting", outcome=told)
    end = _after_failure(line, index, error)
    await _record(line, effect, state, told, *end)
    await _over(line, end)


async def failed(line: Moves, index: int, error: ActionError) -> NoReturn:
    """A step that failed before its licence: try later if the rule says so, else the run has failed."""
    tries = int(line.step(index).get("tries", 0)) + 1
    line.set_step(index, state="waiting", tries=tries, outcome=redact({"summary": str(error), "data": {}}))
    to, reason, message, wake = _after_failure(line, index, error, tries)
    if to is State.HELD:
        await line.hold(reason, message, wake)
    await line.stop(to, reason, message)


def _after_failure(line: Moves, index: int, error: ActionError, tries: int = 0) -> Ending:
    """Where a run goes after a failed try."""
    step = line.script[index]
    done = tries + sum(effect.step == index for effect in line.effects)
    message = f"{step.uses}: {redact(str(error))}"
    if isinstance(error, TemporaryError) and done < step.retry.attempts:
        pause = step.retry.backoff * 2 ** (done - 1)
        text = f"{message}; try {done + 1} of {step.retry.attempts} in {format_duration(pause)}"
        return Ending(State.HELD, "retry", text, line.now() + pause)
    return Ending(State.FAILED, error.reason, message)


async def _unknown(line: Moves, ready: Ready, effect: EffectRow, error: BaseException, text: str) -> None:
    """``apply`` ended without saying whether it happened."""
    kind = Effect(effect.effect)
    line.engine.metrics.actions_total.labels(ready.step.uses, "unknown").inc()
    if kind is Effect.PROBE:
        # The request may still be on its way: what is not seen now may be seen in a moment.
        await _look_later(line, effect, text)
    happened = await _look(line, ready.index, ready.action, ready.change, kind)
    if happened is Happened.YES:
        outcome = Outcome(summary=f"{text}; the target shows that it happened")
        await _conclude_applied(line, ready, effect, outcome)
        await settle(line, ready)
    elif happened is Happened.NO or (kind in _REPEATABLE and not spends(ready.action)):
        # Doing it again is safe; the rule's retry says how often.
        certain = happened is Happened.NO and (spends(ready.action) or _quiet(line, effect))
        state = "failed" if certain else "unknown"
        await _conclude_failed(line, ready.index, effect, TemporaryError(text, reason="unknown"), state)
    elif happened is None:
        await _look_later(line, effect, text)
    else:
        await to_person(line, effect, f"{ready.step.uses} may or may not have happened ({text})")


_REPEATABLE = (Effect.IDEMPOTENT, Effect.KEYED)
_VISIBLE = (Effect.CONDITIONAL, Effect.PROBE, Effect.KEYED)
_MAX_LOOKS = 20
_MAX_LOOKS_AT_MONEY = 100


def _moves_money(line: Moves, effect: EffectRow) -> bool:
    """Whether nothing but proof may end this effect: then its licence stays open while it is looked at."""
    kind = line.world.registry.action(effect.action)
    return kind is not None and kind.spend is not Action.spend



async def _look(line: Moves, index: int, action: Action[Any], change: Change, kind: Effect) -> Happened | None:
    """Ask the target whether the effect took place, where its class allows that question; None: no answer now."""
    step = line.script[index]
    target = line.world.targets.get(step.target)
    if target is None or kind not in _VISIBLE:
        return Happened.UNKNOWN
    try:
        async with asyncio.timeout(step.timeout):
            return await action.reconcile(target, change, line.context(index))
    except PermanentError as error:
        _log.warning("cannot tell whether it happened", action=step.uses, error=str(error))
        return Happened.UNKNOWN
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes; it is logged and classified here.
        _log.warning("cannot tell now whether it happened", action=step.uses, error=str(error))
        return None


async def _look_later(line: Moves, effect: EffectRow, text: str) -> None:
    """The target did not answer: the licence stays open, and the next owner looks again."""
    looks = int(line.step(effect.step).get("looks", 0)) + 1
    line.set_step(effect.step, looks=looks)
    money = _moves_money(line, effect)
    if looks > (_MAX_LOOKS_AT_MONEY if money else _MAX_LOOKS):
        await to_person(line, effect, f"{effect.action}: {text}, and the target cannot be asked what happened")
    message = f"{effect.action}: {text}; the target will be asked what happened"
    if money:
        # A transaction lands or expires within minutes, and its proof does not depend on when the request left.
        await line.hold("reconcile", message, line.now() + min(float(looks), RECHECK))
    quiet = line.step(effect.step)["quiet_at"]
    await line.hold("reconcile", message, quiet if quiet > line.now() else None)


def _quiet_from(line: Moves, effect: EffectRow, begun: float) -> None:
    """Remember when a request that left no later than ``begun`` can no longer be under way."""
    line.set_step(effect.step, quiet_for=effect.id, quiet_at=begun + line.script[effect.step].timeout)


def _quiet(line: Moves, effect: EffectRow) -> bool:
    """Whether no request of this licence can be under way any more, so that what is not seen did not happen."""
    return bool(line.now() >= line.step(effect.step)["quiet_at"])


async def to_person(line: Moves, effect: EffectRow, message: str) -> NoReturn:
    """The outcome of a licence stays unknown and must not be guessed: the run waits for a person."""
    told = redact({"summary": message, "data": {}})
    line.set_step(effect.step, state="unknown", outcome=told)
    message += "; it is not repeated, a person must look"
    end = Ending(State.NEEDS_HUMAN, "unknown_outcome", message)
    await _record(line, effect, "unknown", told, *end)
    await _over(line, end)


async def abandon(line: Moves, effect: EffectRow, message: str, reason: str) -> None:
    """Close a licence as unknown and leave the run to a person at once: nothing more is safe to do."""
    told = redact({"summary": message, "data": {}})
    line.set_step(effect.step, state="unknown", outcome=told)
    await _record(line, effect, "unknown", told, State.NEEDS_HUMAN, reason, message, final=True)
    _tell_end(line)


async def same_key(line: Moves, ready: Ready) -> None:
    """A key whose first use may have been carried out is never sent again with other content."""
    after = ready.shown_change["after"]
    for effect in line.effects:
        unclear = effect.step == ready.index and effect.effect == Effect.KEYED and effect.state == "unknown"
        if unclear and effect.change["after"] != after:
            message = (
                f"{ready.step.uses} may have been carried out under the key of this step, and would now be another "
                "change; it is not sent again, a person must look"
            )
            await line.stop(State.NEEDS_HUMAN, "unknown_outcome", message)


async def settle(line: Moves, ready: Ready) -> None:
    """Wait for the action's own post-condition (rollout complete); then the step is done."""
    index = ready.index
    if line.step(index)["state"] == "done":
        return
    end = line.clock.monotonic() + ready.step.timeout
    while True:
        try:
            async with asyncio.timeout(max(0.1, end - line.clock.monotonic())):
                await ready.action.verify(ready.target, ready.change, line.context(index))
            break
        except (TemporaryError, TimeoutError) as error:
            if line.clock.monotonic() + _SETTLE_EVERY > end:
                why = str(error) or "no answer"
                within = format_duration(ready.step.timeout)
                message = f"{ready.step.uses} was done, but not seen to work within {within}: {why}"
                line.set_step(index, state="unverified")
                await line.stop(State.FAILED, "unverified", redact(message))
        except ActionError as error:
            line.set_step(index, state="unverified")
            await line.stop(State.FAILED, "unverified", redact(f"{ready.step.uses} was done, but: {error}"))
        await asyncio.sleep(_SETTLE_EVERY)
    crashpoint("engine.after_verify")
    line.set_step(index, state="done")
    if line.after(index) is None:
        await line.save(State.RUNNING, "step_done", f"step {line.step_id(index)} is done")


async def recover(line: Moves, effect: EffectRow) -> None:
    """An owner died between a licence and its record. Returns when the run may go on; else it was moved."""
    index, kind = effect.step, Effect(effect.effect)
    step = line.script[index]
    change = Change.from_json(effect.change)
    happened: Happened | None = Happened.UNKNOWN
    if line.step(index).get("quiet_for") != effect.id:
        # Whoever had the run may have sent its request until its lease was over, which was before this claim.
        _quiet_from(line, effect, line.now())
    if kind is Effect.PROBE and not _quiet(line, effect):
        await _look_later(line, effect, "interrupted")
    action: Action[Any] | None = None
    money = _moves_money(line, effect)
    try:
        action = make_action(step, line.known(), line.world.registry)
        happened = await _look(line, index, action, change, kind)
    except InputError as error:
        _log.warning("cannot ask what became of an interrupted effect", action=step.uses, error=str(error))
    _log.warning("found an interrupted effect", action=step.uses, effect=kind.value, happened=happened)
    if happened is Happened.YES:
        told: dict[str, Any] = {"summary": "interrupted; the target shows that it happened", "data": dict(change.after)}
        follow = way_back(line, index, action, change) if action is not None else ()
        await _resume(line, effect, "done", "applied", told, follow)
    elif happened is Happened.NO and (money or _quiet(line, effect)):
        told = {"summary": "interrupted; the target shows that it did not happen", "data": {}}
        await _resume(line, effect, "failed", "waiting", told)
    elif (kind in _REPEATABLE and not money) or happened is Happened.NO:
        told = {"summary": "interrupted; may have happened, and doing it again is safe", "data": {}}
        await _resume(line, effect, "unknown", "waiting", told)
    elif happened is None:
        await _look_later(line, effect, "interrupted")
    else:
        await to_person(line, effect, f"{step.uses} was interrupted and may or may not have happened")


async def _resume(
    line: Moves, effect: EffectRow, state: str, step_state: str, told: dict[str, Any], follow: Sequence[Run] = ()
) -> None:
    line.set_step(effect.step, state=step_state, outcome=told)
    await _record(line, effect, state, told, State.RUNNING, "recovered", str(told["summary"]), follow=follow)


async def _record(
    line: Moves,
    effect: EffectRow,
    state: str,
    told: dict[str, Any],
    to: State,
    reason: str,
    message: str,
    wake_at: float | None = None,
    *,
    follow: Sequence[Run] = (),
    final: bool = False,
) -> None:
    """Write what came of a licence; ``follow`` are runs that follow from it, ``final`` lets nothing be put in order.

    While the store is away it is tried again, also when the lease is over: the store accepts it only from the run's
    owner, and takes it as late evidence from anybody else.
    """
    wanted = to
    if not final:
        to, reason, message, wake_at = line.as_ended(to, reason, message, wake_at)
    follow = (*follow, *line.follow(to, reason, message))
    moved = line.run.move(
        to, reason, redact(message), now=line.now(), wake_at=wake_at, progress=line.progress
    )
    detail = {
        "action": effect.action,
        "attempt": effect.attempt,
        "effect": effect.id,
        "outcome": told,
        "state": state,
        "step": effect.step,
        "target": effect.target,
    }
    entries = [line.entry("effect.outcome", detail)]
    if to is not wanted:
        entries.append(line.entry("remedy.over", {"reason": reason, "message": redact(message), "to": wanted.value}))
    elif to is not State.RUNNING:
        entries.append(
            line.entry(f"run.{to.value}", {"reason": reason, "message": redact(message), "was": line.run.state.value})
        )
    while True:
        try:
            line.run = await line.store.conclude(moved, effect.id, state, told, *entries, follow=follow)
            break
        except Lost:
            await line.store.late(effect.id, state, told, line.entry("effect.late", detail))
            raise
        except StoreUnavailable as error:
            _log.error("what came of an effect cannot be recorded yet", effect=effect.id, error=str(error))
            await asyncio.sleep(_RECORD_EVERY)
    # Only now: a cancelled effect must not be handed back as if it had never begun.
    line.lease.acting = False
    crashpoint("engine.after_conclude")
    for position, known in enumerate(line.effects):
        if known.id == effect.id:
            line.effects[position] = replace(known, state=state)


async def _over(line: Moves, end: Ending) -> NoReturn:
    """The run was moved with the outcome: count it and end the advance, or put in order what there is to."""
    if line.run.state is State.RUNNING:
        line.tidy(end)
    _tell_end(line)
    raise Stop


def _tell_end(line: Moves) -> None:
    line.count_end()
    _log.info("run moved", state=line.run.state.value, reason=line.run.reason, message=line.run.message)
