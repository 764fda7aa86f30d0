"""Where refusals become HTTP, one place a dialect. Strangers get no detail of what is unexpected."""

from __future__ import annotations

from typing import Any

from api.credentials import InvalidClientOrAdminToken
from api.endpoint import Dialect, Endpoint
from api.responses import Answer, answer
from domain import errors
from domain.errors import Refusal

STATUSES: dict[type[Refusal], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    InvalidClientOrAdminToken: 401,
    errors.InvalidToken: 401,
    errors.EndpointNotAllowed: 403,
    errors.LicenseInactive: 403,
    errors.LicenseExpired: 403,
    errors.ProductMismatch: 403,
    errors.DeviceNotActivated: 403,
    errors.LicenseNotFound: 404,
    errors.DeviceNotFound: 404,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.AlreadyActivated: 409,
    errors.DeviceLimitExceeded: 409,
    errors.AnomalyDismissed: 409,
    errors.CustomerIsErased: 409,
    errors.AnswerErased: 410,
    errors.CorrectionRefused: 409,
    errors.IdempotencyInProgress: 409,
    errors.NotYetSigned: 409,
    errors.PayloadTooLarge: 413,
    errors.IdempotencyKeyReused: 422,
    errors.RateLimitExceeded: 429,
    errors.HistoryAltered: 500,
    errors.ServiceUnavailable: 503,
}


class Unexpected(Refusal):
    """What the service did not foresee: the request id finds the log line, and nothing else is told."""

    code = "INTERNAL_ERROR"
    message = "Internal error"


def status_of(endpoint: Endpoint | None, kind: type[Refusal]) -> int:
    """Return the HTTP status of a refusal at an endpoint."""
    if endpoint is not None:
        if kind in endpoint.statuses:
            return endpoint.statuses[kind]
        if endpoint.dialect is Dialect.LICENSES_API and kind is errors.Invalid:
            return 422
    return STATUSES.get(kind, 500)


def refuse(dialect: Dialect, endpoint: Endpoint | None, refusal: Refusal, request_id: str) -> Answer:
    """Render a refusal in its dialect's shape."""
    kind = type(refusal)
    status = status_of(endpoint, kind)
    if dialect is Dialect.LICENSES_API and endpoint is None and kind is errors.Invalid:
        status = 422
    if isinstance(refusal, Unexpected):
        refusal.details = {"request_id": request_id}
    body = licenses_api_body(refusal) if dialect is Dialect.LICENSES_API else services_body(refusal)
    return answer(status, body, _headers(refusal))


def services_body(refusal: Refusal) -> dict[str, Any]:
    """The four services' shape. A malformed request's sentence names the first wrong field: some log nothing else."""
    error = str(refusal)
    if isinstance(refusal, errors.Invalid) and refusal.details:
        field, why = next(iter(refusal.details.items()))
        error = f"{error}: {field} {why}"
    return {"error": error, "error_code": refusal.code, "details": refusal.details}


def licenses_api_body(refusal: Refusal) -> dict[str, Any]:
    """The second dialect's shape: a sentence, a list for malformed bodies, counters for a full quota."""
    match refusal:
        case errors.Invalid() | errors.IdempotencyKeyReused():
            problems = refusal.details or {"Idempotency-Key": str(refusal)}
            return {"detail": [{"loc": [field], "msg": why} for field, why in problems.items()]}
        case errors.DeviceLimitExceeded():
            counts = refusal.details
            return {
                "detail": {
                    "message": "activation quota reached",
                    "activations": counts["current_devices"],
                    "max_activations": counts["max_devices"],
                }
            }
        case Unexpected():
            return {"detail": f"internal error, request {refusal.details['request_id']}"}
        case _:
            return {"detail": str(refusal)}


def _headers(refusal: Refusal) -> dict[str, str]:
    match refusal:
        case errors.RateLimitExceeded() | errors.ServiceUnavailable() | errors.NotYetSigned():
            return {"Retry-After": str(refusal.retry_after)}
        case errors.MethodNotAllowed():
            return {"Allow": ", ".join(refusal.allowed)}
        case errors.InvalidToken():
            return {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        case _:
            return {}
