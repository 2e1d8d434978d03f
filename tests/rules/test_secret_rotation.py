"""The worked rule for rotating a secret: read from its page, and held to the order that makes it safe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.action import Effect
from remediator.catalogue import Catalogue
from remediator.checks import CheckContext
from remediator.guards.approval import Approval
from remediator.integrations.command.target import CommandTarget
from remediator.planning import make_action, make_guard
from remediator.rule import Mode, Rule
from remediator.rulebook import load_rulebook
from remediator.settings import Settings, load_settings
from tests.servers import ROOT

PAGE = ROOT / "docs/how-to/rotate-a-secret.md"


@pytest.fixture
def loaded(tmp_path: Path) -> tuple[Settings, Rule]:
    """The settings and the rule of the page, through the same readers as any other."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, text in zip(("settings", "rules"), blocks, strict=True):
        (tmp_path / f"{name}.yaml").write_text(text)
    catalogue = Catalogue()
    settings = load_settings(tmp_path / "settings.yaml", catalogue)
    book = load_rulebook([tmp_path / "rules.yaml"], catalogue, settings.targets)
    context = CheckContext(services=settings.services, guards=list(settings.guards))
    assert {problem.id for problem in settings.warnings} == {"settings/file"}, "the key files are not on this machine"
    assert [*book.warnings, *catalogue.lint(book, context)] == []
    (rule,) = book.rules
    return settings, rule


def test_the_old_key_goes_last_and_after_the_proof(loaded: tuple[Settings, Rule]) -> None:
    """Both keys are accepted everywhere before the new one signs; the revocation is last, after the smoke test."""
    _, rule = loaded
    order = [rule.step_id(index) for index in range(len(rule.steps))]
    assert order == ["write", "accept", "gates", "sign", "signers", "prove", "revoke"]
    assert rule.keep, "going back half way could stop accepting a key that is still signed with"


def test_two_people_say_yes(loaded: tuple[Settings, Rule]) -> None:
    """Nothing of it happens in a mode without people, and one person is not enough."""
    _, rule = loaded
    guards = dict(make_guard(entry, Catalogue()) for entry in rule.guards)
    approval = guards["approval"]
    assert isinstance(approval, Approval)
    assert approval.needed == 2
    assert rule.mode is Mode.APPROVE


def test_every_step_is_permitted_and_only_the_revocation_has_no_way_back(loaded: tuple[Settings, Rule]) -> None:
    """Each command before the last one can be undone or done again; the last one is never repeated on a guess."""
    settings, rule = loaded
    registry = Catalogue()
    for step in rule.steps:
        action, target = make_action(step, {}, registry), settings.targets[step.target]
        assert target.refusal(step.uses, action.needs()) is None
        if not isinstance(target, CommandTarget):
            continue
        name = step.with_["command"]
        program = target.commands[name]
        if name == "revoke-old":
            assert action.effect_on(target) is Effect.ONCE
            assert program.undo is None
        else:
            assert action.effect_on(target) in (Effect.IDEMPOTENT, Effect.PROBE)
            assert program.undo is not None or name == "smoke-test"
        for command in {program.undo} - {None}:
            assert target.refusal("command.run", {"commands": str(command)}) is None
