"""The closed loop, with one of its rules taken away at a time: what is put in order, waited for, and looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from remediator import acting, line, reverting
from remediator.closing import Closing
from remediator.line import Line
from remediator.moves import Moves
from remediator.preparing import Ready
from remediator.reverting import Reverting
from remediator.rule import Rule, Step, Wait
from remediator.run import Kind, Run, State
from remediator.store import EffectRow, Licence, LicenceRequest, Pause, Refusal
from remediator.stores import _decide, _sqlite_runs
from remediator.stores._sqlite_writer import Transaction


class Mutation(NamedTuple):
    """Something of the core that is replaced."""

    where: Any
    name: str
    by: Any


_undoing = Closing._undoing
_wait = Closing._wait
_order = Line._order
_look_again = Line._look_again
_record = acting._record
_way_back = reverting.way_back
_licence = _sqlite_runs.licence
_refused = _decide.refused


def _bold(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What puts something back, without the value that it must find."""
    return {key: value for key, value in parameters.items() if key != "only_from"}


def _undoes_anything(it: Closing, index: int) -> int:
    inverse = it.step(index)["inverse"]
    it.set_step(index, inverse={**inverse, "with": _bold(inverse["with"])})
    return _undoing(it, index)


def _takes_anything_back(it: Moves, index: int, step: Step, subject: str) -> Run:
    back = _way_back(it, index, step, subject)
    change = back.progress["change"]
    return replace(back, progress={"change": {**change, "with": _bold(change["with"])}})


def _no_final_steps(when: Callable[[Line], bool]) -> Callable[[Line, int], Awaitable[None]]:
    async def order(it: Line, index: int) -> None:
        if index not in it.plan.final or not when(it):
            await _order(it, index)

    return order


async def _followed_later(it: Moves, effect: EffectRow, *args: Any, follow: Sequence[Run] = (), **more: Any) -> None:
    """The outcome first, and what must follow from it in a commit of its own."""
    backs = [run for run in follow if run.kind is Kind.REVERT]
    if args[2] is not State.RUNNING or not backs:
        await _record(it, effect, *args, follow=follow, **more)
        return
    await _record(it, effect, *args, **more)
    moved = it.run.move(State.RUNNING, "lent", "goes back", now=it.now(), progress=it.progress)
    it.run = await it.store.save(moved, it.entry("run.running", {"reason": "lent", "message": "goes back",
                                                                "was": "running"}), follow=backs)  # fmt: skip


async def _deaf(it: Reverting) -> None:
    """``_due`` that knows of the life in which the change was made, and of no later one."""
    change, now, ended = it.progress["change"], it.now(), it.incident.ended_at
    if "asked" not in it.progress and now < change["deadline"]:
        if ended is None:
            await it._stay("the alert fires", change["deadline"])
        elif now < ended + change["settle"]:
            await it._stay("it must stay resolved", min(ended + change["settle"], change["deadline"]))
    await it._newest_first()


async def _impatient(it: Reverting) -> None:
    """``_due`` that does not wait until the alert has stayed away."""
    if "asked" not in it.progress and it.now() < it.progress["change"]["deadline"] and it.incident.open:
        await it._stay("the alert fires", it.progress["change"]["deadline"])
    await it._newest_first()


def _counted(transaction: Transaction, request: LicenceRequest, ids: Any) -> Licence | Refusal:
    """A licence that cleans up, kept as one that every limit counts."""
    answer = _licence(transaction, request, ids)
    if isinstance(answer, Licence):
        transaction.run("UPDATE effect SET closing = 0 WHERE id = ?", answer.effect_id)
    return answer


def _unstoppable(request: LicenceRequest, ended_at: float | None, pauses: Sequence[Pause], now: float) -> Any:
    return _refused(request, ended_at, () if request.closing else pauses, now)


async def _forgetful(it: Closing, index: int, wait: Wait) -> None:
    """A wait that begins anew whenever somebody looks at it."""
    steps = it.progress.get("steps", ())
    if index < len(steps):
        it.set_step(index, until=None)
        it.progress["steps"][index].pop("until")
    await _wait(it, index, wait)


async def _blind(it: Line) -> None:
    """Verification by what was seen before."""

    async def look(rule: Rule) -> None:
        """Look at nothing."""

    setattr(it, "_probe", look)  # noqa: B010 - the types allow no other method
    await _look_again(it)


async def _generous(it: Line, ready: Ready) -> None:
    """Whatever is lent is said to put back what an earlier change did."""
    it.set_step(ready.index, returns=True)


CLOSED_LOOP: Mapping[str, tuple[Mutation, ...]] = {
    "what somebody else has set is undone": (Mutation(Closing, "_undoing", _undoes_anything),),
    "what did not help is not undone": (Mutation(Line, "_undoable", lambda it: []),),
    "another remedy is tried after an unknown verification": (
        Mutation(line, "_NO_CURE", frozenset({"superseded"})),
    ),
    "final steps are skipped after a failure": (
        Mutation(Line, "_order", _no_final_steps(lambda it: it.progress["closing"]["to"] == "failed")),
    ),
    "final steps are skipped by whoever takes over": (
        Mutation(Line, "_order", _no_final_steps(lambda it: it.run.tries > 0)),
    ),
    "the way back is created after the outcome": (Mutation(acting, "_record", _followed_later),),
    "a change goes back although the alert fires again": (Mutation(Reverting, "_due", _deaf),),
    "a change goes back before the alert has stayed away": (Mutation(Reverting, "_due", _impatient),),
    "a change goes back over what somebody else has set": (Mutation(reverting, "way_back", _takes_anything_back),),
    "what is lent is taken for what goes back": (Mutation(Line, "_returns", _generous),),
    "limits count what cleans up": (Mutation(_sqlite_runs, "licence", _counted),),
    "a pause does not hold what cleans up": (Mutation(_decide, "refused", _unstoppable),),
    "a wait begins anew with each look": (Mutation(Closing, "_wait", _forgetful),),
    "old evidence verifies": (Mutation(Line, "_look_again", _blind),),
}
"""What is taken away, and how."""
