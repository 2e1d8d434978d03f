"""Proves that nothing is permitted on a target until it is listed, and that a refusal says what is listed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.target import Target


class _Cluster(Target):
    lists = ("namespaces", "deployments")


def _target(**permit: list[str]) -> _Cluster:
    return _Cluster(name="prod", permit=permit)


def test_nothing_is_permitted_until_it_is_listed() -> None:
    """A target without lists permits no action at all."""
    assert _target().refusal("kubernetes.scale", {}) == (
        'target "prod" does not permit actions "kubernetes.scale" (it lists nothing)'
    )


@pytest.mark.parametrize(
    ("uses", "needs", "permitted"),
    [
        ("kubernetes.scale", {"namespaces": "shop", "deployments": "web-api"}, True),
        ("kubernetes.scale", {"namespaces": "shop", "deployments": "db"}, False),
        ("kubernetes.scale", {"namespaces": "shop2", "deployments": "web-api"}, False),
        ("kubernetes.scale", {"namespaces": "SHOP", "deployments": "web-api"}, False),
        ("kubernetes.scale", {"namespaces": "", "deployments": "web-api"}, False),
        ("kubernetes.scale", {"namespaces": "*", "deployments": "web-api"}, False),
        ("kubernetes.delete", {"namespaces": "shop", "deployments": "web-api"}, False),
        ("kubernetes.scale", {"namespaces": "shop", "deployments": "web-api", "pods": "x"}, False),
    ],
)
def test_every_need_must_be_listed(uses: str, needs: dict[str, str], permitted: bool) -> None:
    """The action and each thing it touches must match a list; a list that is not there permits nothing."""
    target = _target(actions=["kubernetes.scale"], namespaces=["shop"], deployments=["web-*"])
    refusal = target.refusal(uses, needs)
    assert (refusal is None) is permitted
    if refusal is not None:
        assert '"prod" does not permit' in refusal and "it lists" in refusal


def test_an_empty_list_permits_nothing() -> None:
    """Empty is nothing and never everything."""
    assert _target(actions=["*"], namespaces=[]).refusal("kubernetes.scale", {"namespaces": "shop"}) is not None


@pytest.mark.parametrize("given", [{"permits": {}}, {"permit": {"actions": "*"}}, {"permit": []}, {"max_runs": 0}])
def test_a_target_takes_only_what_it_knows(given: dict[str, object]) -> None:
    """A misspelt or mistyped setting of a target is an error and never a permission."""
    with pytest.raises(ValidationError):
        _Cluster.model_validate(given)


def test_a_target_is_fixed() -> None:
    """What is permitted changes by new settings and not by a run."""
    target = _target(actions=["x"])
    with pytest.raises(ValidationError):
        target.__setattr__("permit", {"actions": ["*"]})


async def test_closing_a_target_that_holds_nothing_is_fine() -> None:
    """A kind of target without connections need not say how to close them."""
    await _target().close()
