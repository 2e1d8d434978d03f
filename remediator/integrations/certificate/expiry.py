"""``certificate.expiry``: how long a certificate is still good for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.certificate._seen import see
from remediator.integrations.certificate.target import CertificateTarget, Name
from remediator.probe import Probe, ProbeContext


class Expiry(Probe[CertificateTarget]):
    """Looks at the certificate that a server presents, or at the first one of a file, also when it has expired."""

    certificate: Name = Field(description="The certificate, by its name in the settings of the target.")

    def needs(self) -> Mapping[str, str]:
        """The certificate must be permitted."""
        return {"certificates": self.certificate}

    async def read(self, target: CertificateTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The certificate as evidence. Raises TemporaryError, PermanentError."""
        return (await see(target, self.certificate)).as_json(context.clock.now())
