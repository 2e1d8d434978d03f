"""Figures and their goals: kept in order, shown as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``goal`` is a bound with its direction (``<= 15``, ``>= 0.3``), or empty where there is none."""

    group: str
    name: str
    value: float
    unit: str
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if not self.goal:
            return None
        sign, _, bound = self.goal.partition(" ")
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


@dataclass(slots=True)
class Report:
    """All figures of one run, and what there is to say about the machine."""

    machine: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def add(self, group: str, name: str, value: float, unit: str, goal: str = "") -> None:
        """Note a figure."""
        self.figures.append(Figure(group, name, value, unit, goal))

    def as_json(self) -> str:
        """Everything as JSON."""
        rows = [{**asdict(each), "met": each.met} for each in self.figures]
        return json.dumps({"machine": self.machine, "figures": rows}, indent=2)

    def as_table(self) -> str:
        """Everything for people."""
        lines = [f"{name}: {text}" for name, text in self.machine.items()]
        group, width = "", max((len(each.name) for each in self.figures), default=0)
        for each in self.figures:
            if each.group != group:
                group = each.group
                lines += ["", group]
            met = {True: "met", False: "MISSED", None: ""}[each.met]
            row = f"  {each.name:<{width}}{_number(each.value):>10} {each.unit:<9} {each.goal:>9}  {met}"
            lines.append(row.rstrip())
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 20 else f"{value:.3f}" if value < 1 else f"{value:.2f}"
