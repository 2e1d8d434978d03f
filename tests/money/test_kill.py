"""The service is killed at every named point of a payment: the wallet ends exactly at plan, paid once."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.crashpoint import MONEY
from tests.money.kill import round_of

CASES = [*(f"{point}:1" for point in MONEY), "engine.after_licence:1", "engine.after_apply:1", "money.after_send:3"]


@pytest.mark.parametrize("case", CASES)
async def test_a_death_here_neither_doubles_nor_loses_a_payment(tmp_path: Path, case: str) -> None:
    """Dead before or after signing, sending or closing: after the restart the plan is reached to the lamport."""
    await round_of(tmp_path, case)
