"""``kubernetes.set_env``: switch environment variables of one container of a deployment or stateful set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, field_validator

from remediator.action import ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._env import Variable, value_of
from remediator.integrations.kubernetes._workload import OnTemplate
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.redact import redact_text

Value = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]
_SECRET = re.compile(r"(?i)token|secret|passw|passphrase|credential|private_?key|api_?key")
_CODE = re.compile(
    r"LD_.*|PATH|(NODE|PYTHON|PERL5|RUBY|JAVA_TOOL_|JDK_JAVA_|_JAVA_)_?(OPTIONS|PATH|OPT|LIB|STARTUP|HOME)|RUBYOPT"
    r"|RUBYLIB|PERL5LIB|PERL5OPT|BASH_ENV|ENV|IFS|GCONV_PATH|DYLD_.*"
)


class SetEnv(OnTemplate):
    """Sets environment variables of a container, only if they are unchanged since they were looked at, and waits for
    the rollout.

    A variable that comes from a Secret or ConfigMap, or whose name or value looks like a secret, is left alone.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"allow_drift", "drift_after"})

    env: dict[Variable, Value | None] = Field(
        min_length=1, max_length=20, description="Variables and their values; null takes a variable away."
    )
    only_from: dict[Variable, Value | None] | None = Field(
        default=None, description="Act only if the variables have exactly these values now; used to take a change back."
    )

    @field_validator("env")
    @classmethod
    def _harmless(cls, env: dict[str, str | None]) -> dict[str, str | None]:
        for name, value in env.items():
            if _SECRET.search(name):
                raise ValueError(f"{name} looks like a secret, which belongs into a Secret and not into a rule")
            if _CODE.fullmatch(name):
                raise ValueError(f"{name} decides which code runs; deploy that instead")
            if value is not None and "$(" in value:
                raise ValueError(f"{name}: Kubernetes would replace $(…) by other variables; write the value itself")
        return env

    def read(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """The values now; null for a variable that is not there. Raises PermanentError for what must stay out."""
        return {"env": {name: value_of(container, name, self.thing) for name in sorted(self.env)}}

    def wanted(self, now: dict[str, Any]) -> dict[str, Any]:
        """The other values."""
        for name, value in self.env.items():
            if value is not None and redact_text(value) != value:
                raise PermanentError(
                    f"the new value of {name} looks like a secret, which belongs into a Secret and not into a rule",
                    reason="secret_value",
                )
        if now["env"] != self.env and self.only_from is not None and now["env"] != self.only_from:
            raise PermanentError(
                f"the variables of {self.thing} no longer have the values that this change is made for: somebody else "
                "has changed them",
                reason="changed",
            )
        return {"env": {name: self.env[name] for name in sorted(self.env)}}

    def patch(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        """Only the variables that change, merged by name: all others stay as they are."""
        changed = [name for name in after["env"] if after["env"][name] != before["env"][name]]
        return {"env": [_entry(name, after["env"][name]) for name in changed]}

    def told(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """Every variable with both values."""
        parts = [
            f"{name}={_shown(value)} instead of {_shown(before['env'][name])}"
            for name, value in after["env"].items()
            if value != before["env"][name]
        ]
        return f"set {', '.join(parts) or 'nothing'} in container {before['container']}"

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set the variables, if they still have the values of before."""
        found = await self.apply_patch(target, change, context)
        return Outcome(
            summary=f"{self.thing} gets {', '.join(change.after['env'])}",
            data={"env": change.after["env"], "generation": found.metadata.generation},
        )

    def inverse(self, change: Change) -> SetEnv:
        """Back to the values of before, only if those of after are still there."""
        return SetEnv.model_validate(
            {
                **self.where(),
                "container": change.before["container"],
                "env": change.before["env"],
                "only_from": change.after["env"],
            }
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the variables have the values of after, no if those of before, else unknown."""
        return await self.happened(target, change)


def _entry(name: str, value: str | None) -> dict[str, Any]:
    return {"name": name, "$patch": "delete"} if value is None else {"name": name, "value": value}


def _shown(value: str | None) -> str:
    return "nothing" if value is None else repr(value[:80])
