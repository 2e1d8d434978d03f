"""Tests of the action kubernetes.set_image."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.kubernetes.set_image import SetImage
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored


def _set(image: str, **parameters: Any) -> SetImage:
    where = {"namespace": "production", "deployment": "minting-worker"}
    return SetImage.model_validate({**where, "image": image, **parameters})


async def test_another_image_and_back(api: ApiServer, target: KubernetesTarget) -> None:
    """The image is set, rolled out, and can be taken back while it still runs."""
    action = _set("registry.example.com:5000/minting-service:v1.2.0")
    change = await carried_out(action, target)
    assert change.before == {"container": "main", "image": "minting:1.2"}
    assert api.get("deployments", "minting-worker")["status"]["updatedReplicas"] == 3
    await carried_out(stored(action.inverse(change)), target)
    (container,) = api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "minting:1.2"


async def test_an_image_must_say_its_version(api: ApiServer, target: KubernetesTarget) -> None:
    """Without a tag or a digest nobody knows what would run."""
    for image in ("minting", "registry.example.com:5000/minting"):
        with pytest.raises(PermanentError) as caught:
            await shown(_set(image), target)
        assert caught.value.reason == "image"
    assert not (await shown(_set(f"minting@sha256:{'a' * 64}"), target)).empty


def test_only_permitted_images() -> None:
    """The target says which images rules may run, and none is permitted until it is listed."""
    permit = {"actions": ["kubernetes.set_image"], "namespaces": ["production"], "deployments": ["*"]}
    needs = _set("registry.example.com/minting-service:v1").needs()
    assert "images" in str(KubernetesTarget(permit=permit).refusal("kubernetes.set_image", needs))
    some = KubernetesTarget(permit={**permit, "images": ["registry.example.com/minting-service:v*"]})
    assert some.refusal("kubernetes.set_image", needs) is None
    assert some.refusal("kubernetes.set_image", _set("evil.example.com/minting-service:v1").needs())


@pytest.mark.parametrize(
    "image", ["", "A:1", "minting:1 2", "minting:1\n", "../minting:1", "minting:1;x", "http://x/minting:1", "x" * 501]
)
def test_only_references_are_images(image: str) -> None:
    """What is no image reference is refused when the rule is filled in."""
    with pytest.raises(ValidationError):
        _set(image)


async def test_what_a_webhook_changes_on_the_way_is_seen_before(
    api: ApiServer, target: KubernetesTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If something in the cluster rewrites the image, the dry run shows it and nothing is done."""
    patched = api.answers._patched

    def mutated(call: Any, found: dict[str, Any]) -> dict[str, Any]:
        new = patched(call, found)
        new["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror.example.com/minting:1.3"
        return new

    monkeypatch.setattr(api.answers, "_patched", mutated)
    with pytest.raises(PermanentError) as caught:
        await shown(_set("minting:1.3"), target)
    assert caught.value.reason == "mutated"
    assert api.writes() == []
