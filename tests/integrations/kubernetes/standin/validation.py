"""What the API server finds invalid (422) in the objects that Remediator patches."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)")
_UNITS: dict[str, Fraction] = {"": Fraction(1), "m": Fraction(1, 1000)}
_UNITS |= {letter: Fraction(1000 ** (n + 1)) for n, letter in enumerate("kMGT")}
_UNITS |= {f"{letter}i": Fraction(1024 ** (n + 1)) for n, letter in enumerate("KMGT")}


class Invalid(Exception):
    """The object is not valid; the message names the field."""


def tidy(found: dict[str, Any]) -> None:
    """Leave out of a workload's template what Go's ``omitempty`` leaves out: empty lists and maps."""
    template = found.get("spec", {}).get("template", {})
    for container in template.get("spec", {}).get("containers", ()):
        if not container.get("env", True):
            del container["env"]
        container["resources"] = {kind: amounts for kind, amounts in container.get("resources", {}).items() if amounts}


def validate(resource: str, new: dict[str, Any], old: dict[str, Any]) -> None:
    """Raises Invalid."""
    if resource in ("deployments", "statefulsets"):
        _workload(new["spec"], old["spec"])
    if resource == "horizontalpodautoscalers" and new["spec"].get("minReplicas", 1) > new["spec"]["maxReplicas"]:
        raise Invalid("spec.maxReplicas: must be greater than or equal to `minReplicas`")
    if resource == "horizontalpodautoscalers" and new["spec"].get("minReplicas", 1) < 1:
        raise Invalid("spec.minReplicas: must be greater than or equal to 1")


def _workload(spec: dict[str, Any], old: dict[str, Any]) -> None:
    if spec["selector"] != old["selector"]:
        raise Invalid("spec.selector: field is immutable")
    labels = spec["template"].get("metadata", {}).get("labels", {})
    if not spec["selector"]["matchLabels"].items() <= labels.items():
        raise Invalid("spec.template.metadata.labels: `selector` does not match template `labels`")
    for number, container in enumerate(spec["template"]["spec"]["containers"]):
        place = f"spec.template.spec.containers[{number}]"
        if not container.get("image"):
            raise Invalid(f"{place}.image: Required value")
        resources = container.get("resources", {})
        for name, text in resources.get("requests", {}).items():
            limit = resources.get("limits", {}).get(name)
            if limit is not None and _quantity(text) > _quantity(limit):
                raise Invalid(f"{place}.resources.requests: must be less than or equal to {name} limit of {limit}")


def _quantity(text: str) -> Fraction:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise Invalid(f"quantities must match the regular expression, {text} does not")
    return Fraction(match[1]) * _UNITS[match[2]]
