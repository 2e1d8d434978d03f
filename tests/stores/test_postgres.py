"""Proves that the PostgreSQL store keeps every promise of the port: the one suite that every store must pass."""

from __future__ import annotations

from tests.postgres import postgres
from tests.stores.conformance.claims import Claims
from tests.stores.conformance.facts import Facts
from tests.stores.conformance.followups import Followups
from tests.stores.conformance.intake import Intake
from tests.stores.conformance.licences import Licences
from tests.stores.conformance.life import Life
from tests.stores.conformance.money import Money
from tests.stores.conformance.people import People
from tests.stores.conformance.record import Record
from tests.stores.conformance.retention import Retention
from tests.stores.conformance.tally import Tallies
from tests.stores.ground import bench, ground

__all__ = ["bench", "ground", "postgres"]


class TestPostgres(Facts, Intake, Claims, Licences, Money, People, Followups, Record, Retention, Tallies, Life):
    """The one suite that every store must pass."""
