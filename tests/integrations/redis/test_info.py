"""Tests of the probe redis.info, against a real server."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from remediator.integrations.redis.info import Info
from tests.integrations.redis.servers import one_server, target_of
from tests.integrations.support import looking

SECTIONS = ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", "cluster", "keyspace",
            "errorstats", "commandstats", "latencystats"]  # fmt: skip


async def test_memory_can_be_compared() -> None:
    """Numbers are numbers, so that a rule can compare them."""
    evidence = await Info(section="memory").read(target_of(one_server()), looking())
    assert isinstance(evidence["used_memory"], int)
    assert evidence["used_memory"] > 0


@pytest.mark.parametrize("section", SECTIONS)
async def test_every_section_is_json(section: str) -> None:
    """Whatever the server says can be kept as evidence."""
    evidence = await Info.model_validate({"section": section}).read(target_of(one_server()), looking())
    json.dumps(evidence, allow_nan=False)


def test_other_sections_are_refused() -> None:
    """A section is one of a list, and nothing that a rule makes up."""
    with pytest.raises(ValidationError):
        Info.model_validate({"section": "all"})
