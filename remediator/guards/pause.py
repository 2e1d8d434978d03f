"""``pause``: nothing acts while a person has paused everything, this rule or one of its targets."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.guard import Guard, GuardContext, Verdict


class Pause(Guard):
    """Holds a run while a pause of its rule, of one of its targets or of everything is in force.

    Every rule has this guard; it need not be written. The licence transaction reads the pauses once more.
    """

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``paused``, naming the widest pause and why it was made."""
        for scope, what in _scopes(context):
            if scope in context.pauses:
                reason = context.pauses[scope] or "no reason given"
                return Verdict.hold("paused", f"{what} is paused: {reason}")
        return Verdict.allow()


def _scopes(context: GuardContext) -> Iterator[tuple[str, str]]:
    yield "global", "everything"
    yield f"rule:{context.rule}", f'rule "{context.rule}"'
    for target in context.targets:
        yield f"target:{target}", f'target "{target}"'
