"""Words of money in settings and rules: amounts as decimal text, addresses as base58. Nothing is ever rounded."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from remediator.ledger import sol

MOST = 2**63 - 1
_AMOUNT = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))? SOL", re.ASCII)
_LAMPORTS = re.compile(r"([0-9]{1,19}) lamports?", re.ASCII)
_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_LETTERS)}


def lamports(text: str) -> int:
    """Lamports of ``1.5 SOL`` or ``1500000000 lamports``. Raises ValueError with what to write."""
    whole = _AMOUNT.fullmatch(text)
    small = _LAMPORTS.fullmatch(text)
    if whole is not None:
        value = int(whole[1]) * 10**9 + int((whole[2] or "").ljust(9, "0"))
    elif small is not None:
        value = int(small[1])
    else:
        raise ValueError("an amount is decimal text with its unit, like 1.5 SOL or 5000 lamports (at most 9 decimals)")
    if value > MOST:
        raise ValueError("there is not so much SOL")
    return value


def _amount(value: Any) -> int:
    # A float is refused: 0.1 + 0.2 has no place in money, and a bare number does not say its unit.
    if not isinstance(value, str):
        raise ValueError("write an amount as text with its unit, like 1.5 SOL")
    return lamports(value)


Lamports = Annotated[
    int,
    BeforeValidator(_amount),
    PlainSerializer(sol, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})? SOL$|^[0-9]+ lamports?$"}),
]
"""A field written as ``1.5 SOL`` and read as whole lamports."""


def base58(data: bytes) -> str:
    """Bytes in base58 (Bitcoin's alphabet), as addresses and signatures are written."""
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = _LETTERS[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def unbase58(text: str, size: int) -> bytes:
    """The ``size`` bytes that ``text`` says in base58. Raises ValueError."""
    number = 0
    for letter in text[:120]:
        if letter not in _VALUES:
            raise ValueError(f'"{text[:60]}" is not base58')
        number = number * 58 + _VALUES[letter]
    data = number.to_bytes(96, "big").lstrip(b"\0")
    data = b"\0" * (len(text) - len(text.lstrip("1"))) + data
    if len(text) > 120 or len(data) != size:
        raise ValueError(f'"{text[:60]}" is not {size} bytes in base58')
    return data


def _address(text: str) -> str:
    try:
        data = unbase58(text, 32)
    except ValueError as error:
        raise ValueError(f"an address of Solana is 32 bytes in base58: {error}") from None
    if base58(data) != text:
        raise ValueError("an address has exactly one form in base58")
    return text


Address = Annotated[str, Field(max_length=44), AfterValidator(_address)]
"""An address in base58."""
