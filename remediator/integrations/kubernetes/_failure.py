"""What an error of the Kubernetes API means: it did not happen, it may be tried again, or nobody knows."""

from __future__ import annotations

import json
from dataclasses import dataclass

from aiohttp import ClientConnectorCertificateError
from kubernetes.aio.client.exceptions import ApiException

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Departure, Unanswered


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One call in RBAC's words, so that a message says exactly what to grant."""

    verb: str
    resource: str
    namespace: str
    name: str = ""

    @property
    def writes(self) -> bool:
        """True if the call can change something."""
        return self.verb not in ("get", "list")

    def __str__(self) -> str:
        """``patch deployments/scale "minting-worker" in namespace production``."""
        named = f' "{self.name}"' if self.name else ""
        return f"{self.verb} {self.resource}{named} in namespace {self.namespace}"


_MEANING = {
    401: "the credentials are not accepted",
    403: "the identity of Remediator is not allowed to; grant this verb on this resource",
    404: "it does not exist",
    409: "it has changed since it was read",
    422: "the API server finds the change invalid",
    429: "the API server is busy",
}


def _message(error: ApiException) -> str:
    """The sentence in the Status object of the API server, if there is one."""
    try:
        text = json.loads(error.body or "").get("message", "")
    except (ValueError, AttributeError, TypeError):
        return ""
    return str(text)[:300]


def api_failure(error: ApiException, request: Request) -> Exception:
    """The word for an answer that is not a success."""
    status = error.status or 0
    meaning = _MEANING.get(status, f"the API server answered {status}")
    said = _message(error)
    text = f"cannot {request}: {meaning}" + (f" ({said})" if said else "")
    if status in (409, 429):
        # An optimistic lock and the API server's flow control both refuse before anything is carried out.
        return TemporaryError(text, reason="conflict" if status == 409 else "status_429")
    if status >= 500 or status < 200:
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
