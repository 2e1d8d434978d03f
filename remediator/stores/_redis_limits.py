"""How Redis remembers who was licensed lately: the two scripts of the pre-filter and the names of their keys."""

from __future__ import annotations

import hashlib

from remediator.guard import Limit
from remediator.store import LicenceRequest
from remediator.stores._decide import scope_value

Command = tuple[str | int, ...]
"""One command of Redis, word by word."""

# Members are runs, not licences: the ledger counts a run once, however often it tries. Times are the server's own, so
# that replicas need not agree on one; an entry from the future is none of ours.
_FULL = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i, key in ipairs(KEYS) do
  local runs, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now - window))
  redis.call('ZREMRANGEBYSCORE', key, string.format('(%.0f', now), '+inf')
  local own = redis.call('ZSCORE', key, ARGV[1]) and 1 or 0
  if redis.call('ZCARD', key) - own >= runs then return i end
end
return 0
"""
_GRANTED = """
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now, ARGV[1])
  redis.call('PEXPIRE', key, ARGV[i + 1])
end
return 0
"""


def full(prefix: str, request: LicenceRequest) -> Command:
    """Asks which limit of ``request``, counted from 1, looks used up by other runs; the answer 0 is none."""
    bounds: list[str | int] = []
    for limit in request.limits:
        bounds += [limit.runs, _milliseconds(limit)]
    keys = _keys(prefix, request)
    return ("EVAL", _FULL, len(keys), *keys, request.run.id, *bounds)


def granted(prefix: str, request: LicenceRequest) -> Command:
    """Tells that the store has licensed ``request``."""
    keys = _keys(prefix, request)
    return ("EVAL", _GRANTED, len(keys), *keys, request.run.id, *map(_milliseconds, request.limits))


def _keys(prefix: str, request: LicenceRequest) -> list[str]:
    return [_key(prefix, limit, request) for limit in request.limits]


def _key(prefix: str, limit: Limit, request: LicenceRequest) -> str:
    # A digest, so that no name of a rule, an alert or a target gets into Redis.
    _, value = scope_value(limit, request.run.rule, request.incident_key, request.target)
    digest = hashlib.sha256(value.encode()).hexdigest()[:32]
    return f"{prefix}:limit:{limit.scope}:{digest}:{_milliseconds(limit)}"


def _milliseconds(limit: Limit) -> int:
    return max(1, round(limit.window * 1000))
