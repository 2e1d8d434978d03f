"""``remediator rbac``: the least Roles that the rules need, and whether the running identity has exactly them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from remediator.action import Action
from remediator.catalogue import Catalogue
from remediator.errors import InputError
from remediator.integrations.kubernetes._grant import ANY, Grant
from remediator.integrations.kubernetes._rbac import Finding, review, role_documents
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.placeholder import holds
from remediator.probe import Probe
from remediator.rule import Rule
from remediator.rulebook import load_rulebook
from remediator.settings import load_settings

_WILD = frozenset("*?[")


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--config.file", "config_file", required=True, help="Settings: the targets and what they permit.")
@click.option("--target", "only", help="Only this target; otherwise every target of kind kubernetes.")
@click.option(
    "--service-account",
    default="remediator/remediator",
    show_default=True,
    metavar="NAMESPACE/NAME",
    help="Whom the Roles are bound to.",
)
@click.option("--verify", is_flag=True, help="Ask the API server instead: what is missing, and what is too much?")
def rbac(paths: Sequence[str], config_file: str, only: str | None, service_account: str, verify: bool) -> None:
    """Print the least Role and RoleBinding that the rules need, for each namespace.

    PATHS are files, directories (their *.yaml and *.yml files) or globs; ./rules if there are none. With --verify
    the exit status is 1 if the running identity lacks something or may do more.
    """
    namespace, slash, name = service_account.partition("/")
    if not (namespace and slash and name):
        raise click.UsageError("--service-account is NAMESPACE/NAME, such as remediator/remediator")
    catalogue = Catalogue()
    settings = load_settings(config_file, catalogue)
    book = load_rulebook(paths or ["rules"], catalogue, settings.targets)
    clusters = {
        known: target
        for known, target in settings.targets.items()
        if isinstance(target, KubernetesTarget) and only in (None, known)
    }
    if not clusters:
        raise InputError(f"there is no target of kind kubernetes{f' named {only}' if only else ''} in {config_file}")
    needed = {known: _needed(book.rules, known, target, catalogue) for known, target in clusters.items()}
    if verify:
        findings = asyncio.run(_review(clusters, needed))
        for known, finding in findings.items():
            _tell(known, finding)
        if not all(finding.exact for finding in findings.values()):
            raise SystemExit(1)
        return
    for known, grants in needed.items():
        _print(known, grants, (namespace, name))


async def _review(
    clusters: Mapping[str, KubernetesTarget], needed: Mapping[str, Sequence[Grant]]
) -> dict[str, Finding]:
    found = {}
    for known, target in clusters.items():
        try:
            found[known] = await review(await target.cluster(), needed[known])
        finally:
            await target.close()
    return found


def _tell(target: str, finding: Finding) -> None:
    for word, sentences in (("missing", finding.missing), ("too much", finding.surplus), ("unsure", finding.unsure)):
        for sentence in sentences:
            click.echo(f"{target}: {word}: {sentence}")
    if finding.exact:
        click.echo(f"{target}: the identity may do exactly what the rules need", err=True)


def _print(target: str, grants: Sequence[Grant], account: tuple[str, str]) -> None:
    import yaml

    click.echo(f"# What the rules need of target {target}.")
    for document in role_documents(grants, account):
        click.echo("---")
        click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)


def _needed(rules: Sequence[Rule], name: str, target: KubernetesTarget, catalogue: Catalogue) -> list[Grant]:
    """Every right that actions and probes of the rules need on this target. Raises InputError."""
    found: set[Grant] = set()
    for rule in rules:
        for call in _calls(rule.model_dump(mode="json", by_alias=True)):
            if call["target"] != name:
                continue
            kind = catalogue.action(call["uses"]) or catalogue.probe(call["uses"])
            if kind is not None and hasattr(kind, "grants"):
                found.update(_grants(rule.name, kind, call.get("with") or {}, target))
    return sorted(found)


def _calls(value: Any) -> Iterator[dict[str, Any]]:
    """Everything in a rule that uses an action or a probe, wherever the grammar allows one."""
    if isinstance(value, Mapping):
        if isinstance(value.get("uses"), str) and isinstance(value.get("target"), str):
            yield dict(value)
        for key, inner in value.items():
            if key != "with":
                yield from _calls(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _calls(inner)


def _grants(
    rule: str, kind: type[Action[Any]] | type[Probe[Any]], parameters: dict[str, Any], target: KubernetesTarget
) -> Iterator[Grant]:
    if not holds(parameters):
        yield from kind.model_validate(parameters).grants()  # type: ignore[union-attr]  # asked for by hasattr above
        return
    # What a label decides is not known here. Without validation, the placeholder stands where the name will.
    made = kind.model_construct(None, **parameters)
    needs = made.needs()
    for grant in made.grants():  # type: ignore[union-attr]  # asked for by hasattr above
        names = _names(grant.name, needs, target)
        for namespace in _names(grant.namespace, needs, target):
            if namespace == ANY and grant.namespace != ANY:
                raise InputError(
                    f"rule {rule}: the namespace of {grant.resource} comes from a label, and the target permits "
                    f"{', '.join(target.permit.get('namespaces', [])) or 'none'}; write the namespaces of the permit "
                    "list out, there is a Role for each"
                )
            for each in names:
                yield Grant(namespace, grant.group, grant.resource, each, grant.verb)


def _names(text: str, needs: Mapping[str, str], target: KubernetesTarget) -> list[str]:
    """What a placeholder may become: the names that the target permits, or any if those have wildcards."""
    if not holds(text):
        return [text]
    for kind, value in needs.items():
        permitted = target.permit.get(kind, [])
        if value == text and permitted and not any(_WILD & set(pattern) for pattern in permitted):
            return list(permitted)
    return [ANY]
