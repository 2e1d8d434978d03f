"""Changes an object only if what the change was made for still is so, however often its status moves meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from remediator.action import ActionContext, Change
from remediator.errors import TemporaryError
from remediator.integrations.kubernetes._shape import Shape
from remediator.integrations.kubernetes._thing import Thing

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

S = TypeVar("S", bound=Shape)
CHANGED_BY = "remediator.io/changed-by"
"""The annotation that holds the key of the step that changed an object last; after a crash it tells what happened."""
_TRIES = 5


async def patch_same(
    cluster: Cluster,
    thing: Thing,
    shape: type[S],
    change: Change,
    body: Callable[[str], Any],
    context: ActionContext,
    before: Callable[[S], Any],
    *,
    subresource: str = "",
    content_type: str = "",
) -> S:
    """Patch ``thing`` if its version is that of ``change``, or if ``before`` of it still is what ``change`` shows.

    The version of an object moves with every count in its status; in an incident that is all the time. ``body`` makes
    the patch for a version. Raises TemporaryError (reason conflict), PermanentError, Unanswered.
    """
    from remediator.integrations.kubernetes._cluster import MERGE

    version = str(change.volatile["resource_version"])
    for left in range(_TRIES - 1, -1, -1):
        try:
            return await cluster.patch(
                thing,
                body(version),
                shape,
                subresource=subresource,
                content_type=content_type or MERGE,
                check=context.check_deadline,
            )
        except TemporaryError as error:
            if error.reason != "conflict" or not left:
                raise
            found: Any = await cluster.get(thing, shape, subresource=subresource)
            if found.metadata.uid != change.volatile["uid"] or before(found) != dict(change.before):
                raise
            version = found.metadata.resource_version
    raise AssertionError("the last try raises or returns")


def version_of(thing: Thing, found: Any) -> dict[str, str]:
    """What a change keeps to be made only once: version and identity. Raises TemporaryError if there is none."""
    if not found.metadata.resource_version:
        raise TemporaryError(f"the API server gave no resourceVersion of {thing}", reason="malformed")
    return {"resource_version": found.metadata.resource_version, "uid": found.metadata.uid}
