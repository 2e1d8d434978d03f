"""What an error of the Kubernetes API means: it did not happen, it may be tried again, or nobody knows."""

from __future__ import annotations

import json
from dataclasses import dataclass

from aiohttp import ClientConnectorCertificateError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Departure, Unanswered


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One call in RBAC's words, so that a message says exactly what to grant. ``dry``: it only pretends."""

    verb: str
    resource: str
    namespace: str
    name: str = ""
    dry: bool = False

    @property
    def writes(self) -> bool:
        """True if the call can change something."""
        return self.verb not in ("get", "list") and not self.dry

    def __str__(self) -> str:
        """``patch deployments/scale "minting-worker" in namespace production``."""
        named = f' "{self.name}"' if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in the cluster"
        return f"{self.verb} {self.resource}{named} {where}" + (" (dry run)" if self.dry else "")


_MEANING = {
    401: "the credentials are not accepted",
    403: "the identity of Remediator is not allowed to; grant this verb on this resource",
    404: "it does not exist",
    409: "it has changed since it was read",
    410: "the list took too long to read and has expired",
    422: "the API server finds the change invalid",
    429: "the API server is busy",
}


def _message(body: bytes) -> str:
    """The sentence in the Status object of the API server, if there is one."""
    try:
        text = json.loads(body or b"").get("message", "")
    except (ValueError, AttributeError, TypeError):
        return ""
    return str(text)[:300]


def api_failure(status: int, body: bytes, retry_after: str, request: Request) -> Exception:
    """The word for an answer that is not a success."""
    meaning = _MEANING.get(status, f"the API server answered {status}")
    said = _message(body)
    text = f"cannot {request}: {meaning}" + (f" ({said})" if said else "")
    if status in (409, 410, 429):
        # An optimistic lock and the API server's flow control both refuse before anything is carried out.
        after = f"; it asks to wait {retry_after[:10]} s" if retry_after.isdecimal() else ""
        return TemporaryError(text + after, reason="conflict" if status == 409 else f"status_{status}")
    if status >= 500 or status < 200 or status == 408:
        if request.writes:
            return Unanswered(f"{text}; whether it was carried out is unknown")
        return TemporaryError(text, reason=f"status_{status}")
    return PermanentError(text, reason=f"status_{status}")


def transport_failure(error: Exception, request: Request, departure: Departure) -> Exception:
    """The word for a request without a usable answer."""
    if isinstance(error, ClientConnectorCertificateError):
        return PermanentError(f"cannot {request}: the certificate of the API server is not trusted", reason="tls")
    if not departure.begun:
        return TemporaryError(f"cannot {request}: no connection to the API server", reason="connect")
    what = "no answer in time" if isinstance(error, TimeoutError) else f"no usable answer ({type(error).__name__})"
    if request.writes:
        return Unanswered(f"{request} was sent, but there was {what}; whether it was carried out is unknown")
    return TemporaryError(f"cannot {request}: {what}", reason="unanswered")
