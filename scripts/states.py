"""Writes docs/reference/states.md from the table of moves: ``python -m scripts.states``."""

from __future__ import annotations

from pathlib import Path

from remediator.run import LIVE, MOVES, State, diagram

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "states.md"

HEAD = """\
# States of a run

A run is one carrying-out of one rule for one incident. It moves along this table and no other way: the engine
cannot make another move, and the store refuses to write one. Every move is committed together with its audit record.

Written from `remediator/run.py` by `python -m scripts.states`.

"""

MEANINGS = {
    State.QUEUED: "matched, and waits to be claimed: for its turn, its `for:`, or a target that another run acts on",
    State.HELD: "waits for a guard, a person's answer, a retry or a pause",
    State.RUNNING: "in the hands of one worker, under a lease",
    State.VERIFYING: "has acted, and waits to see the problem gone",
    State.SUCCEEDED: "the problem is gone, or all steps are done and nothing else was asked for",
    State.FAILED: "a step failed with nothing left to try, or the problem is still there",
    State.DENIED: "a condition, a guard, a permission or a person said no",
    State.OBSERVED: "observe mode: it is recorded what would have been done",
    State.CANCELLED: "the alert resolved, the rule changed, or a person cancelled, before anything was done",
    State.EXPIRED: "too old to act on, or nobody answered in time",
    State.NEEDS_HUMAN: "an effect may or may not have happened; a person looks and closes it",
}


def page() -> str:
    """The whole page."""
    kind = {state: "goes on" if state in LIVE else "end" for state in State} | {State.NEEDS_HUMAN: "waits for a person"}
    rows = [f"| `{state}` | {kind[state]} | {MEANINGS[state]} |" for state in State]
    moves = [f"| `{was}` | `{to}` | {why} |" for (was, to), why in MOVES.items()]
    parts = [
        HEAD,
        "| state | | what it means |\n|---|---|---|\n" + "\n".join(rows) + "\n\n",
        f"```mermaid\n{diagram()}```\n\n",
        "| from | to | when |\n|---|---|---|\n" + "\n".join(moves) + "\n",
    ]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
