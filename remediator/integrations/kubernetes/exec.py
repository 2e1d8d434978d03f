"""``kubernetes.exec``: run one of the programs that the operator has named inside a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._command import COMMAND, ContainerCommand
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._pods import Pod
from remediator.integrations.kubernetes._thing import ContainerName, Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget


class Exec(Action[KubernetesTarget]):
    """Runs a named command of the target in a container of one pod, without a shell, and keeps the end of its output.

    It is done when the command exits with 0; any other exit code is the command's own word that it failed.
    """

    effect: ClassVar[Effect] = Effect.ONCE
    literal: ClassVar[frozenset[str]] = frozenset({"command"})

    namespace: Namespace = Field(description="The pod's namespace.")
    pod: Name = Field(description="The pod's name.")
    container: ContainerName | None = Field(
        default=None, description="The container; needed where the pod has more than one."
    )
    command: Annotated[str, StringConstraints(pattern=COMMAND)] = Field(
        description="The command's name in the settings of the target."
    )

    @property
    def _thing(self) -> Thing:
        return Thing("pod", self.namespace, self.pod)

    def effect_on(self, target: KubernetesTarget) -> Effect:
        """What the operator declared for the command; ``once`` for one that is not there."""
        command = target.commands.get(self.command)
        return Effect(command.effect) if command else Effect.ONCE

    def needs(self) -> Mapping[str, str]:
        """Namespace, pod and command must be permitted."""
        return {"namespaces": self.namespace, "pods": self.pod, "commands": self.command}

    def subject(self) -> str:
        """``pod/<namespace>/<name>``."""
        return str(self._thing)

    def grants(self) -> list[Grant]:
        """Reading the pod, and running programs in it. Newer API servers ask for create, some older ones for get."""
        return grants_on(self._thing, "get") + grants_on(self._thing, "create", "get", sub="exec")

    def _command(self, target: KubernetesTarget) -> ContainerCommand:
        command = target.commands.get(self.command)
        if command is None:
            known = ", ".join(sorted(target.commands)) or "none"
            raise PermanentError(f'the target has no command "{self.command}"; it has {known}', reason="command")
        return command

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """The program that would be run, and where. Nothing shows whether it ran, so it is never empty.

        Raises TemporaryError, PermanentError.
        """
        command = self._command(target)
        found = await (await target.cluster()).get(self._thing, Pod)
        names = found.container_names()
        container = self.container or (names[0] if len(names) == 1 else "")
        if container not in names:
            what = f'has no container "{container}"; it' if container else "needs container:"
            raise PermanentError(f"{self._thing} {what} has {', '.join(names)}", reason="container")
        if found.status.phase != "Running" or found.metadata.deletion_timestamp:
            raise TemporaryError(f"{self._thing} is not running", reason="not_running")
        after: dict[str, Any] = {"container": container, "argv": list(command.argv), "pod": found.metadata.uid}
        return Change(
            summary=f"run {self.command} in {self._thing}: {' '.join(command.argv)}"[:500], before={}, after=after
        )

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Run it to its end."""
        command, cluster = self._command(target), await target.cluster()
        found = await cluster.get(self._thing, Pod)
        if list(command.argv) != change.after["argv"] or found.metadata.uid != change.after["pod"]:
            raise PermanentError("the command or the pod is no longer the one that was shown", reason="changed")
        ended = await cluster.execute(
            self._thing,
            str(change.after["container"]),
            list(command.argv),
            command.max_output,
            command.timeout,
            context.check_deadline,
        )
        if ended.code != 0:
            tail = (ended.stderr or ended.stdout).strip()[-500:]
            raise PermanentError(f"{self.command} exited with {ended.code}: {tail}", reason="exit_code")
        return Outcome(
            summary=f"{self.command} exited with 0",
            data={"exit_code": 0, "stdout": ended.stdout, "stderr": ended.stderr},
        )
