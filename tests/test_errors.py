"""Proves that the tree of errors in the documentation is the tree in the code, and what callers may rely on in it."""

from __future__ import annotations

import inspect

from remediator import errors
from remediator.errors import (
    ActionError,
    DeliveryError,
    InputError,
    Lost,
    PermanentError,
    RemediatorError,
    StoreError,
    TemporaryError,
)


def _drawn() -> dict[str, str]:
    """Each name of the tree in the docstring, and the one above it."""
    above: list[tuple[int, str]] = []
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip("│├└─ ").partition(" ")[0]
        if not name.isidentifier() or not hasattr(errors, name):
            continue
        depth = len(line) - len(line.lstrip("│├└─ "))
        above = [one for one in above if one[0] < depth]
        found[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    return found


def test_the_tree_in_the_docstring_is_the_code() -> None:
    """Whoever reads the tree knows every exception that is raised on purpose, and what catches it."""
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    assert _drawn() == {c.__name__: c.__bases__[0].__name__ for c in classes}


def test_a_refused_delivery_carries_its_answer() -> None:
    """The status and the stable word of a refusal are there for the answer, the metric and the audit."""
    error = DeliveryError(400, "version", 'it must be "4"')
    assert (error.status, error.reason, str(error)) == (400, "version", 'it must be "4"')
    assert isinstance(error, InputError)


def test_action_errors_carry_a_stable_word() -> None:
    """The two words of action authors say whether a retry may help, and why in a word that labels can hold."""
    for kind in (TemporaryError, PermanentError):
        assert kind("no").reason == "error"
        assert kind("no", reason="timeout").reason == "timeout"
        assert isinstance(kind("no"), ActionError)


def test_losing_a_run_is_never_taken_for_an_action_that_failed() -> None:
    """A handler of failed actions cannot catch that another owner has the run."""
    assert not issubclass(Lost, ActionError) and issubclass(Lost, StoreError)
    assert issubclass(StoreError, RemediatorError)
