"""``kubernetes.set_image``: run another image in one container of a deployment or stateful set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from remediator.action import ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._workload import OnTemplate
from remediator.integrations.kubernetes.target import KubernetesTarget

# The grammar of a reference (https://pkg.go.dev/github.com/distribution/reference), with a tag or digest demanded:
# without one it is "latest", and nobody knows what that will be.
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_VERSION = r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
Image = Annotated[str, Field(max_length=500, pattern=rf"^(?:{_HOST}/)?{_PATH}(?:/{_PATH})*{_VERSION}$")]


class SetImage(OnTemplate):
    """Sets the image of a container, only if it is unchanged since it was looked at, and waits for the rollout.

    The image must be one that the target permits.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"allow_drift", "drift_after"})

    image: Image = Field(description="The image, with a tag or a digest.")
    only_from: Image | None = Field(
        default=None, description="Act only if the container runs exactly this image now; used to take a change back."
    )

    def needs(self) -> Mapping[str, str]:
        """Namespace, object and image must be permitted."""
        return {**super().needs(), "images": self.image}

    def read(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """The image."""
        return {"image": str(container.get("image", ""))}

    def wanted(self, now: dict[str, Any]) -> dict[str, Any]:
        """The other image."""
        if self.image.rpartition("/")[2].partition("@")[0].partition(":")[2] == "" and "@" not in self.image:
            raise PermanentError(f"{self.image} has neither a tag nor a digest; write one", reason="image")
        if now["image"] != self.image and self.only_from not in (None, now["image"]):
            raise PermanentError(
                f"{self.thing} runs {now['image']} and not {self.only_from}, which this change is made for",
                reason="changed",
            )
        return {"image": self.image}

    def patch(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        """The image."""
        return {"image": after["image"]}

    def told(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """Both images."""
        return f"run {after['image']} instead of {before['image']} in container {before['container']}"

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set the image, if the container still runs that of before."""
        found = await self.apply_patch(target, change, context)
        return Outcome(
            summary=f"{self.thing} gets {change.after['image']}",
            data={"image": change.after["image"], "generation": found.metadata.generation},
        )

    def inverse(self, change: Change) -> SetImage:
        """Back to the image of before, only if that of after still runs."""
        return SetImage.model_validate(
            {
                **self.where(),
                "container": change.before["container"],
                "image": change.before["image"],
                "only_from": change.after["image"],
            }
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the container has the image of after, no if that of before, else unknown."""
        return await self.happened(target, change)
