"""What endpoints know of a signature."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.integrations.solana.transaction import Transaction
from tests.integrations.solana.chain import cluster
from tests.integrations.solana.stages import treasury, wallet
from tests.integrations.solana.test_top_up import till
from tests.integrations.support import looking

NOBODY = "5YT5seZmKAfmCt8vKytAcgBsK5KDxXfH8H43rBHcof9S1xw8aHTNdpWQb8insWdcebJpUbHmNsk8KLw4CsFxtAaf"


async def test_a_payment_is_seen_by_all(tmp_path: Path) -> None:
    """A finalized payment is told with its slot; one liar that denies it changes nothing, one alone proves nothing."""
    async with till(tmp_path) as it:
        outcome = await it.pay()
        probe = Transaction(signature=outcome.data["signature"])
        seen = await probe.read(it.target, looking())
        assert (seen["finalized"], seen["succeeded"], seen["slot"]) == (True, True, outcome.data["slot"])
        for number, agreed in ((0, True), (1, False)):
            it.it.nodes[number].lie["getSignatureStatuses"] = lambda right: {**right, "value": [None]}
            seen = await probe.read(it.target, looking())
            assert (seen["finalized"], seen["known_to"]) == (agreed, 2 - number)


async def test_what_nobody_knows(tmp_path: Path) -> None:
    """A signature that no endpoint has seen is not finalized, and that is no error."""
    async with cluster(nodes=2) as it:
        target = treasury(it, tmp_path, wallet(it))
        seen = await Transaction(signature=NOBODY).read(target, looking())
        assert (seen["finalized"], seen["known_to"], seen["endpoints"]) == (False, 0, 2)
        await target.close()


@pytest.mark.parametrize("text", ["", "1", NOBODY[:-4], NOBODY + "1", NOBODY.replace("5", "0", 1), "x' OR 1=1"])
def test_a_signature_is_64_bytes(text: str) -> None:
    """Anything but 64 bytes in base58 is refused before it is asked for."""
    with pytest.raises(ValidationError):
        Transaction(signature=text)
