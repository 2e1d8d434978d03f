"""The contract that every action and probe keeps. What labels may hold is in test_injection.py."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import remediator.integrations
from remediator.action import Action, Change, Effect, Happened
from remediator.composite import Composite
from remediator.errors import TemporaryError
from remediator.probe import Probe
from remediator.target import Target
from tests.integrations.arrangements import Stage, stages
from tests.integrations.support import HandClock, acting, switched_off


def _families() -> Iterator[tuple[str, str, type[Any]]]:
    """System, file and class of every action, probe and composite there is, found by path."""
    root = Path(remediator.integrations.__file__).parent
    for path in sorted(root.glob("*/*.py")):
        system, name = path.parent.name, path.stem
        if name.startswith("_") or name == "target":
            continue
        module = importlib.import_module(f"remediator.integrations.{system}.{name}")
        for _, found in inspect.getmembers(module, inspect.isclass):
            # Action[T] is put into the module by pydantic and stays abstract; only what can be used counts.
            if (
                issubclass(found, Action | Probe | Composite)
                and found.__module__ == module.__name__
                and not inspect.isabstract(found)
            ):
                yield system, name, found


FAMILIES = list(_families())
NAMES = [f"{system}.{name}" for system, name, _ in FAMILIES]
ACTIONS = [
    f"{system}.{name}" for system, name, found in FAMILIES if issubclass(found, Action) and system not in switched_off()
]


STAGES = stages()


@pytest.fixture(params=ACTIONS)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Every action in turn; an action without a stage fails here by name."""
    async with STAGES[request.param](tmp_path) as it:
        yield it


def _stored(change: Change) -> Change:
    """The change as it comes back from the store."""
    return Change.from_json(json.loads(json.dumps(change.as_json())))


async def _verified(stage: Stage, change: Change) -> None:
    """Ask until the post-condition holds, as the engine does."""
    for _ in range(200):
        try:
            await stage.action.verify(stage.target, change, acting())
            return
        except TemporaryError:
            await asyncio.sleep(0.05)
    await stage.action.verify(stage.target, change, acting())


def test_nothing_is_missing() -> None:
    """The suite sees every action and probe of the tree, and each action has its stage."""
    assert {"http.get", "http.post", "prometheus.query", "command.run", "kubernetes.scale"} <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    assert set(STAGES) == set(ACTIONS)


@pytest.mark.parametrize(("system", "name", "found"), FAMILIES, ids=NAMES)
def test_name_is_path_and_every_parameter_is_described(system: str, name: str, found: type[Any]) -> None:
    """One class per file, named by it; each parameter carries its documentation; literal names parameters."""
    assert found.__name__ == name.title().replace("_", "")
    assert inspect.getdoc(found)
    parameters = {field.alias or key for key, field in found.model_fields.items()}
    assert all(field.description for field in found.model_fields.values())
    assert getattr(found, "literal", frozenset()) <= parameters
    target = importlib.import_module(f"remediator.integrations.{system}.target")
    kinds = [
        each
        for _, each in inspect.getmembers(target, inspect.isclass)
        if issubclass(each, Target) and each.__module__ == target.__name__
    ]
    assert len(kinds) == 1
    own = {key: field for key, field in kinds[0].model_fields.items() if key not in Target.model_fields}
    assert all(field.description for field in own.values())


async def test_looking_changes_nothing(stage: Stage) -> None:
    """However often the change is computed, the world stays as it is and the change the same."""
    changes = [await stage.action.diff(stage.target, acting()) for _ in range(3)]
    assert stage.effects() == 0
    assert len({change.digest for change in changes}) == 1
    assert not changes[0].empty


async def test_acting_takes_effect_once(stage: Stage) -> None:
    """From the stored change to the verified effect: exactly one, and where the action can see it, nothing is left."""
    change = _stored(await stage.action.diff(stage.target, acting()))
    stage.licence(change)
    outcome = await stage.action.apply(stage.target, change, acting())
    await _verified(stage, change)
    assert stage.effects() == 1
    json.dumps(dict(outcome.data), allow_nan=False)
    assert (await stage.action.diff(stage.target, acting())).empty == stage.converges


async def test_no_effect_after_the_licence_ran_out(stage: Stage) -> None:
    """After the deadline of its licence an action does nothing and says that it did nothing."""
    clock = HandClock()
    context = acting(clock)
    change = _stored(await stage.action.diff(stage.target, context))
    stage.licence(change)
    clock.at = context.deadline + 0.001
    with pytest.raises(TemporaryError) as caught:
        await stage.action.apply(stage.target, change, context)
    assert caught.value.reason == "licence_expired"
    assert stage.effects() == 0


async def test_the_effect_class_is_declared(stage: Stage) -> None:
    """What a crash means is declared on the class itself; a class that converges can be done again."""
    assert isinstance(type(stage.action).__dict__["effect"], Effect)
    effect = stage.action.effect_on(stage.target)
    assert isinstance(effect, Effect)
    assert stage.converges or effect not in (Effect.IDEMPOTENT, Effect.CONDITIONAL)


async def test_permission_is_asked_for_what_is_touched(stage: Stage, request: pytest.FixtureRequest) -> None:
    """Every need is a list of the target's kind; with all lists it is permitted, without any one it is not."""
    uses = request.node.callspec.params["stage"]
    needs = stage.action.needs()
    assert needs
    assert set(needs) <= set(stage.target.lists)
    assert stage.target.refusal(uses, needs) is None
    for kind in ("actions", *needs):
        permit = {**stage.target.permit, kind: ["something-else"]}
        assert stage.target.model_copy(update={"permit": permit}).refusal(uses, needs)


async def test_plans_survive_restarts(stage: Stage) -> None:
    """Written as JSON and read back, an action is the same action."""
    text = json.dumps(stage.action.model_dump(mode="json", by_alias=True))
    assert type(stage.action).model_validate(json.loads(text)) == stage.action


async def test_looking_back_changes_nothing(stage: Stage) -> None:
    """reconcile only reads, and inverse is only another action of the same integration, which can be stored."""
    change = _stored(await stage.action.diff(stage.target, acting()))
    assert isinstance(await stage.action.reconcile(stage.target, change, acting()), Happened)
    inverse = stage.action.inverse(change)
    assert inverse is None or stage.action.reversible(stage.target)
    if inverse is not None:
        system = type(stage.action).__module__.rpartition(".")[0]
        assert type(inverse).__module__.startswith(f"{system}.")
        stored = inverse.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert type(inverse).model_validate(json.loads(json.dumps(stored))) == inverse
    assert stage.effects() == 0


async def test_a_target_can_be_closed_at_any_time(stage: Stage) -> None:
    """Closing twice is fine, also before the first use, and a closed target opens again when used."""
    await stage.target.close()
    await stage.action.diff(stage.target, acting())
    await stage.target.close()
    await stage.target.close()
    await stage.action.diff(stage.target, acting())


@pytest.mark.parametrize(("system", "name", "found"), FAMILIES, ids=NAMES)
def test_the_page_says_what_there_is(system: str, name: str, found: type[Any]) -> None:
    """The reference page has its headings and names every parameter; its example is one that loads."""
    page = (Path(__file__).parents[2] / "docs/reference/integrations" / system / f"{name}.md").read_text()
    assert page.startswith(f"# {system}.{name}\n")
    kinds = {Action: "Effect and recovery", Probe: "Evidence", Composite: "Written out as"}
    kind = next(heading for base, heading in kinds.items() if issubclass(found, base))
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["What it does", "Parameters", "Permissions", kind, "Example"]
    table = page.partition("## Parameters")[2].partition("\n## ")[0]
    for key, field in found.model_fields.items():
        assert f"`{field.alias or key}`" in table
    example = yaml.safe_load(page.partition("## Example")[2].split("```yaml\n")[-1].partition("```")[0])
    (call,) = example.get("probes") or example["steps"]
    assert call["uses"] == f"{system}.{name}"
    found.model_validate(call["with"])
