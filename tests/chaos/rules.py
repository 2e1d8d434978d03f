"""The rules of the chaos: effect classes, a question to people, limits, and a target for one run at a time."""

from __future__ import annotations

from typing import Any

from tests.crash.scene import VERIFY, post, rule

LIMITS = ((4, 10.0), (12, 60.0))
"""What ``limited`` may do: so many runs in so many seconds."""
RULES: list[dict[str, Any]] = [
    rule("once", "auto", [post("/once")], verify=VERIFY),
    rule(
        "idempotent", "auto", [post("/idempotent", idempotent=True)], verify=VERIFY,
        probes=[{"id": "state", "uses": "http.get", "target": "app", "with": {"path": "/state"}}],
    ),
    rule("keyed", "auto", [post("/keyed", keyed=True), post("/slow", keyed=True)], verify=VERIFY),
    rule("approved", "approve", [post("/approved", keyed=True)], verify=VERIFY),
    rule("alone", "auto", [{**post("/alone", keyed=True), "target": "single"}], verify=VERIFY),
    rule(
        "limited", "auto", [post("/limited")], verify=VERIFY,
        guards=[{"rate_limit": {"runs": runs, "per": f"{per:g}s"}} for runs, per in LIMITS],
    ),
]  # fmt: skip
NAMES = tuple(each["name"] for each in RULES)
"""The alerts; each has the rule of the same name."""
CALLS_PEOPLE = ("once", "limited")
"""Rules whose step is of class ``once``: interrupted, they are left to a person."""


def edited(number: int) -> list[dict[str, Any]]:
    """The rules with one of them edited, another one for each ``number``."""
    return [
        {**each, "description": f"edit {number}"} if position == number % len(RULES) else each
        for position, each in enumerate(RULES)
    ]
