"""What the tests of the checks share: rules made of text, and what one check says about them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remediator.catalogue import Catalogue
from remediator.checks import CheckContext
from remediator.rulebook import rulebook_from_texts

Say = Callable[..., list[tuple[str, int, int, str]]]

RULE = """\
rules:
  - name: backlog
    owner: team-minting
    mode: auto
    when: {alert: A}
    guards: [{cooldown: 10m}]
    steps: [{uses: command.run, target: tools, with: {command: sync}}]
    verify: {until: alert.resolved, within: 10m}
"""


@pytest.fixture
def say() -> Say:
    """Id, line, column and message of what the checks say about RULE with some of its text replaced."""

    def ask(*changes: tuple[str, str], **context: object) -> list[tuple[str, int, int, str]]:
        text = RULE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        catalogue = Catalogue()
        book = rulebook_from_texts([("r.yaml", text.encode())], catalogue)
        found = catalogue.lint(book, CheckContext(**context))  # type: ignore[arg-type]  # fields of the context
        return [(p.id, p.line, p.column, p.message) for p in found]

    return ask
