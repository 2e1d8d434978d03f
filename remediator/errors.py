"""Every exception raised on purpose, and nothing else.

    RemediatorError
    ├── InputError               what a person or a client gave us is wrong; says where and what to write instead
    │   ├── DeliveryError        a webhook body that will never be accepted; carries its HTTP status
    │   ├── ProblemsError        a file was refused, with every problem at its place (problem.py)
    │   │   ├── RulebookError    rules (rulebook)
    │   │   └── SettingsError    settings (settings)
    │   └── MatcherError, ExpressionError, PlaceholderError    a text inside a rule (in the modules of these names)
    ├── ActionError              the two words an action or probe author has
    │   ├── TemporaryError       it did not happen, and trying again may help
    │   └── PermanentError       it did not happen, and trying again will not help
    ├── CatalogueError           a file of an integration, guard or check is not what its place says (catalogue.py)
    ├── StateError               a move that the table of moves does not know
    └── StoreError
        ├── StoreUnavailable     the store cannot answer now (the webhook says 503)
        ├── Lost                 another owner has the run: stop, and do nothing more
        ├── NotFound             no such run, incident or approval
        └── Conflict             what the caller saw is no longer so (HTTP 409)

Anything else that reaches the engine is a bug; it is caught in exactly one place and fails closed.
"""

from __future__ import annotations


class RemediatorError(Exception):
    """Root of everything that is raised on purpose."""


class InputError(RemediatorError):
    """Something a person or client wrote is wrong; the message says where and what to write instead."""


class DeliveryError(InputError):
    """A webhook body that can never be accepted. ``status`` is the HTTP status, ``reason`` a stable word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ActionError(RemediatorError):
    """Root of the two failure words of action and probe authors. ``reason`` is a stable word for labels."""

    def __init__(self, message: str, *, reason: str = "error") -> None:
        super().__init__(message)
        self.reason = reason


class TemporaryError(ActionError):
    """The effect certainly did not happen and a later try may succeed (connection refused, 503, lock busy)."""


class PermanentError(ActionError):
    """The effect certainly did not happen and no retry will change that (403, 404, 422, bad parameter)."""


class StateError(RemediatorError):
    """A run was asked to make a move that is not in the table of moves."""


class StoreError(RemediatorError):
    """Root of what a store may answer instead of a result."""


class StoreUnavailable(StoreError):
    """The store cannot commit or read now; nothing happened."""


class Lost(StoreError):
    """The run's epoch or version moved on: somebody else owns it. The caller stops and does nothing more."""


class NotFound(StoreError):
    """The named thing is not in the store."""


class Conflict(StoreError):
    """The request was made on something that has changed since (a digest, a state). Nothing happened."""
