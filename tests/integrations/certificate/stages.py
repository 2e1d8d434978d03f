"""The stage of certificate actions for the contract suite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.certificate.renew import Renew
from tests.integrations.arrangements import Stage
from tests.integrations.certificate.nginx import nginx


@asynccontextmanager
async def certificate_renew(directory: Path) -> AsyncIterator[Stage]:
    """A certificate that has ten days left when the clock of the suite strikes, and a new one that has years."""
    # The suite's clock stands at an instant of its own.
    ahead = (1_800_000_000.0 - time.time()) / 86400
    with nginx(days=ahead + 10) as server:
        server.authority.issue("new", days=ahead + 1000)
        yield Stage(
            action=Renew(certificate="www"),
            target=server.target(renew=server.renewal()),
            effects=server.count,
            converges=True,
        )


STAGES = {"certificate.renew": certificate_renew}
