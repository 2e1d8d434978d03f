"""How parameters name things in Redis: keys, patterns of keys, and nodes of a cluster."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text, without line breaks and other control characters")
    return text


Key = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_printable)]
"""The name of a key, sent as it is. Redis allows any bytes; what a person cannot read is refused here."""


Aside = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]
"""The name of a key that was put aside: longer than what it was called before."""


def _value(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a value must be valid Unicode text") from None
    if "\x00" in text:
        raise ValueError("a value may hold no NUL character")
    return text


Value = Annotated[str, Field(max_length=64 * 1024), AfterValidator(_value)]
"""A value as text, sent as UTF-8."""


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    number = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    plain = all(c.isascii() and (c.isalnum() or c in ("-_.:" if bracketed else "-_.")) for c in name)
    if not (colon and number and name and plain):
        raise ValueError("write host:port, such as redis-0.example:6379 or [2001:db8::1]:6379")
    return text


Address = Annotated[str, Field(max_length=300), AfterValidator(_address)]
"""``host:port`` of a server."""


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of an ``Address``, an IPv6 host without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def quarantine_name(key: str, mark: str) -> str:
    """Where ``key`` is put away: a name that a cluster keeps on the same server, because it hashes to the same slot.

    (redis.io/docs/reference/cluster-spec, "Hash tags": only what stands between the first { and the next } counts.)
    """
    begin = key.find("{")
    tagged = begin >= 0 and key.find("}", begin) > begin + 1
    if not tagged and ("{" in key or "}" in key):
        raise ValueError("a key with a brace that is no hash tag cannot be put away in the same slot")
    return f"{key if tagged else '{' + key + '}'}:quarantine:{mark}"
