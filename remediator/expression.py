"""Conditions of rules in CEL (https://cel.dev): checked at load, answered within bounds, strictly yes or no.

The only module that knows the CEL library. It is imported with the first expression, so that a service
without rules does not pay for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from remediator.errors import InputError
from remediator.problem import nearest

MAX_LENGTH = 4096

ALERT_FIELDS = {"resolved": "bool", "firing": "bool", "for_seconds": "double"}
"""Fields of ``alert``, which stands for the incident as a whole, and their CEL types."""

VARIABLES: Mapping[str, str] = {
    "labels": "map(string, string)",
    "annotations": "map(string, string)",
    "alerts": "list(map(string, dyn))",
    "alert": "alert",
    "count": "int",
    "severity": "string",
    "service": "string",
    "state": "string",
    "reason": "string",
    "probes": "map(string, dyn)",
    "steps": "map(string, dyn)",
}
"""Every variable and its CEL type.

An item of ``alerts`` has ``status``, ``labels``, ``annotations``, ``starts_at`` (Unix seconds).
"""

CONDITION = frozenset({"labels", "annotations", "alerts", "count", "severity"})
"""What `when.condition` may read."""
IF = CONDITION | {"probes"}
"""What a rule's `if` may read."""
LATER_IF = IF | {"steps"}
"""What the `if` of a remedy may read: steps are those of the remedies before it."""
UNTIL = IF | {"alert", "steps"}
"""What `verify.until` may read."""
LEASE = IF | {"alert"}
"""What `lease.until` may read: it is asked long after the run with its steps is over."""
CALL = frozenset({"labels", "annotations", "severity", "service", "state", "reason"})
"""What `if` of a call in an escalation policy may read; `state` and `reason` are those of the run that ended."""

# Strings, comments, names with the path that follows them, and everything else one character at a time.
_TOKEN = re.compile(
    r'''[rRbB]{0,2}(?:"""(?:[^\\]|\\.)*?"""|\'\'\'(?:[^\\]|\\.)*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')'''
    r"|//[^\n]*"
    r"|(?P<member>\.\s*\??\s*[A-Za-z_]\w*)"
    r"""|(?P<name>[A-Za-z_]\w*)(?:\s*\.\s*\??\s*(?P<field>[A-Za-z_]\w*)|\s*\[\s*\??\s*(?P<quote>["'])(?P<key>[^"'\\]*)(?P=quote)\s*\])?"""
    r"|.",
    re.DOTALL,
)
_PROBES = re.compile(r"\bprobes\b")
_REPORT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_OVERLOAD = re.compile(r"found no matching overload for '(.+?)' applied to '\((.*)\)'")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")


class ExpressionError(InputError):
    """An expression that cannot be compiled, or cannot be answered. ``line`` and ``column`` count from 1.

    ``offset`` counts characters from the start of the source; all three are 0 where no place is known.
    """

    def __init__(self, message: str, *, hint: str = "", source: str = "", offset: int = -1) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint
        before = source[: max(offset, 0)]
        self.offset = max(offset, 0)
        self.line = before.count("\n") + 1 if offset >= 0 else 0
        self.column = len(before) - (before.rfind("\n") + 1) + 1 if offset >= 0 else 0


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked condition. Keeps only its text: programs are compiled again on use and shared, 60 µs each."""

    source: str
    names: frozenset[str]

    @property
    def looks(self) -> bool:
        """Whether the answer depends on what probes see, so that old evidence is no answer."""
        return bool(_PROBES.search(self.source))

    def reads(self, probes: Iterable[str]) -> frozenset[str]:
        """Which of these probes it may read: those that it names, or all where it works a name out."""
        found = set()
        for token in _TOKEN.finditer(self.source):
            if token["name"] == "probes":
                field = token["field"] if token["field"] is not None else token["key"]
                if field is None:
                    return frozenset(probes)
                found.add(field)
        return frozenset(found) & frozenset(probes)

    @classmethod
    def compile(
        cls, source: str, names: Iterable[str], *, probes: Iterable[str] = (), steps: Iterable[str] = ()
    ) -> Expression:
        """``source`` as a condition over the variables ``names``, a subset of ``VARIABLES``.

        ``probes`` and ``steps`` are the ids that exist: reading another one is refused here, not at three in
        the morning. Raises ExpressionError.
        """
        allowed = frozenset(names)
        if not source.strip():
            raise ExpressionError("the expression is empty", hint="leave the key out, or write true")
        if len(source) > MAX_LENGTH:
            raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
        _check_names(source, allowed, {"probes": tuple(probes), "steps": tuple(steps), "alert": tuple(ALERT_FIELDS)})
        if not _shape_is_good(_shape(source), allowed):
            _program(source, allowed)
        return cls(source, allowed)

    def evaluate(self, variables: Mapping[str, Any]) -> bool:
        """The answer. ``variables`` maps the names given to ``compile`` to JSON data, ``alert`` to its fields.

        Raises ExpressionError when there is none: a missing label, a probe that failed, a value of another
        type, more work than the budget allows. Nobody may take that for a yes.
        """
        data: dict[str, Any] = {}
        for name in self.names:
            if name not in variables:
                continue
            value = _json(variables[name])
            if name == "alert":
                data |= {f"alert.{field}": value[field] for field in ALERT_FIELDS if field in value}
            else:
                data[name] = value
        try:
            answer = _program(self.source, self.names).eval(data=data)
            plain = answer.plain_value()
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            # The library refuses values it cannot hold (lone surrogates, huge numbers) in different ways.
            raise ExpressionError(_said(str(error))) from None
        if plain is True or plain is False:
            return plain
        if answer.type().name() == "ERROR":
            raise ExpressionError(_said(str(plain)))
        raise ExpressionError(f"the expression gave {answer.type().name()} instead of true or false")


def _json(value: Any) -> Any:
    """Plain dicts and lists: the library takes no other mapping."""
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value


def _check_names(source: str, allowed: frozenset[str], known: Mapping[str, tuple[str, ...]]) -> None:
    """Refuses ids that do not exist, which CEL itself can only see at run time."""
    for token in _TOKEN.finditer(source):
        name = token["name"]
        if name not in known or name not in allowed:
            continue
        field = token["field"] if token["field"] is not None else token["key"]
        if field is not None and field not in known[name]:
            start = token.start("field" if token["field"] is not None else "key")
            raise _unknown(f"{name}.{field}", field, known[name], source, start)


def _unknown(what: str, word: str, words: Iterable[str], source: str, offset: int) -> ExpressionError:
    return ExpressionError(f"nothing is named {what}", hint=nearest(word, words), source=source, offset=offset)


# Literals that say nothing about types: text without escapes, and whole numbers that fit any integer.
_LITERAL = re.compile(r"""(?P<text>"[^"\n]*"|'[^'\n]*')|(?<![\w.])[0-9]{1,18}(?![\w.])""")


def _shape(source: str) -> str:
    """``source`` with its plain literals blanked: rules that differ in a name or a number have the same types."""
    if "\\" in source or "//" in source or '""' in source or "''" in source:
        return source
    return _LITERAL.sub(lambda found: '"x"' if found["text"] else "1", source)


@lru_cache(maxsize=4096)
def _shape_is_good(shape: str, names: frozenset[str]) -> bool:
    """Whether ``shape`` compiles to a condition. If not, the source itself is compiled, for its report."""
    try:
        _compile(shape, names)
    except ExpressionError:
        return False
    return True


@cache
def _environment(names: frozenset[str]) -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional

    kind = cel.Type
    data, text = kind.Map(kind.STRING, kind.DYN), kind.Map(kind.STRING, kind.STRING)
    types = {
        "map(string, string)": text,
        "map(string, dyn)": data,
        "list(map(string, dyn))": kind.List(data),
        "bool": kind.BOOL,
        "int": kind.INT,
        "double": kind.DOUBLE,
        "string": kind.STRING,
    }
    variables = {name: types[VARIABLES[name]] for name in names if name != "alert"}
    if "alert" in names:
        # Declared field by field, so that each has its type and a misspelt one is an error.
        variables |= {f"alert.{field}": types[its] for field, its in ALERT_FIELDS.items()}
    return cel.NewEnv(variables=variables, extensions=[ext_optional.ExtOptional()])


@lru_cache(maxsize=1024)
def _program(source: str, names: frozenset[str]) -> Any:
    """The compiled ``source``, kept while it is in use. Raises ExpressionError where it is no condition."""
    return _compile(source, names)


def _compile(source: str, names: frozenset[str]) -> Any:
    try:
        program = _environment(names).compile(source)
    except RuntimeError as error:
        raise _explained(source, str(error), names) from None
    kind = program.return_type().name()
    if kind not in ("BOOL", "DYN"):
        raise ExpressionError(
            f"the expression gives {kind.lower()}, and a condition is true or false",
            hint="compare it with something: == != < >",
            source=source,
            offset=0,
        )
    return program


def _explained(source: str, report: str, names: frozenset[str]) -> ExpressionError:
    """The first error of CEL's report in our words, with its place."""
    found = _REPORT.search(report)
    if found is None:
        return ExpressionError(_said(report))
    line, column, message = int(found[1]), int(found[2]), found[3].removesuffix("[INVALID_ARGUMENT]").strip()
    offset = -1
    if line > 0:
        offset = sum(len(text) + 1 for text in source.split("\n")[: line - 1]) + max(0, column - 1)
    if undeclared := _UNDECLARED.search(message):
        return _undeclared(undeclared[1], source, offset, names)
    if message.startswith("Syntax error: "):
        message, hint = _syntax(message.removeprefix("Syntax error: "))
    else:
        message, hint = _overload(message)
    return ExpressionError(message, hint=hint, source=source, offset=offset)


def _undeclared(path: str, source: str, offset: int, names: frozenset[str]) -> ExpressionError:
    """CEL points at the dot of ``a.b``; the word before it is what the reader looks for."""
    root = path.split(".")[0]
    start = max(source.rfind(root, 0, offset + len(root)), 0)
    if root == "alert" and root in names:
        hint = f"there are {', '.join(f'alert.{field}' for field in ALERT_FIELDS)}"
        return ExpressionError(f"{path} is no value by itself", hint=hint, source=source, offset=start)
    if root in VARIABLES:
        hint = f"here there are {', '.join(sorted(names))}"
        return ExpressionError(f"{root} is not known at this place", hint=hint, source=source, offset=start)
    return _unknown(root, root, names, source, start)


def _syntax(message: str) -> tuple[str, str]:
    """The message and a hint for a text that is no CEL."""
    message = re.sub(r",? expecting .*$", "", message)
    if "'<EOF>'" in message:
        return "the expression ends too early", ""
    if message.startswith("token recognition error at: '="):
        return message, "== compares"
    if re.search(r"'(and|or|not)'", message):
        return message, "CEL writes && for and, || for or, ! for not"
    return message, ""


def _overload(message: str) -> tuple[str, str]:
    """The message and a hint for an operator between the wrong types."""
    overload = _OVERLOAD.search(message)
    if overload is None:
        return message, ""
    operator, kinds = overload[1].strip("_@"), set(overload[2].split(", "))
    hint = ""
    if kinds == {"double", "int"}:
        hint = "write a number with a point to compare with a double: 300.0"
    elif kinds == {"string", "int"}:
        hint = 'labels are text: write "3", or int(labels.x)'
    return f"{operator} does not work on ({overload[2]})", hint


def _said(report: str) -> str:
    """CEL's status text without its code words."""
    text = re.sub(r"^[A-Z_]+: ", "", report.strip())
    text = re.sub(r"\s*\[[A-Z_]+\]$", "", text)
    text = re.sub(r"^(?:ERROR: )?<input>:-?\d+:-?\d+: ", "", text.split("\n")[0])
    if missing := re.fullmatch(r'Key not found in map : "(.*)"', text):
        return f'there is no "{missing[1]}"'
    if missing := re.fullmatch(r'No value with name "(.*)" found in Activation', text):
        return f"{missing[1]} is not known yet"
    return text[:300]
