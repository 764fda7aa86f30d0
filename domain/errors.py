"""Refusals of the domain. Each has a stable code; HTTP statuses live in the dialects' error mappers."""

from __future__ import annotations

from typing import Any, ClassVar


class Refusal(Exception):
    """A request that the rules refuse.

    `code` is stable and part of the API; `details` is a JSON object for programs; the message is for people.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    message: ClassVar[str] = "Refused"

    def __init__(self, message: str | None = None, /, **details: Any) -> None:
        super().__init__(message or self.message)
        self.details = details


class Invalid(Refusal):
    """The request is malformed; `details` names each field and why."""

    code = "VALIDATION_ERROR"
    message = "The request is malformed"


class Unauthorized(Refusal):
    """No or wrong API key, admin key or secret."""

    code = "UNAUTHORIZED"
    message = "Missing or wrong credentials"


class InvalidToken(Refusal):
    """A token that is malformed, expired, of the wrong kind, by an unknown key, or whose activation has ended."""

    code = "INVALID_TOKEN"
    message = "The token is not valid"


class EndpointNotAllowed(Refusal):
    """The API key's allowed endpoints do not cover this one."""

    code = "ENDPOINT_NOT_ALLOWED"
    message = "This API key may not call this endpoint"


class LicenseNotFound(Refusal):
    """There is no such licence."""

    code = "LICENSE_NOT_FOUND"
    message = "License key not found"


class LicenseInactive(Refusal):
    """The licence was deactivated."""

    code = "LICENSE_INACTIVE"
    message = "License is deactivated"


class LicenseExpired(Refusal):
    """The licence's term has ended."""

    code = "LICENSE_EXPIRED"
    message = "License has expired"


class ProductMismatch(Refusal):
    """The request, or its API key, names another product than the licence's."""

    code = "PRODUCT_MISMATCH"
    message = "The license is for another product"


class DeviceNotActivated(Refusal):
    """The device holds no seat, but one is free."""

    code = "DEVICE_NOT_ACTIVATED"
    message = "Device is not activated"


class DeviceLimitExceeded(Refusal):
    """All seats are taken. `details`: max_devices, current_devices."""

    code = "DEVICE_LIMIT_EXCEEDED"
    message = "Device limit reached"


class AlreadyActivated(Refusal):
    """The device already holds a seat. `details` hold that activation."""

    code = "ALREADY_ACTIVATED"
    message = "Already activated on this device"


class DeviceNotFound(Refusal):
    """The device holds no seat of this licence."""

    code = "DEVICE_NOT_FOUND"
    message = "Device not found"


class NotFound(Refusal):
    """There is no such thing."""

    code = "NOT_FOUND"
    message = "Not found"


class AnomalyDismissed(Refusal):
    """The anomaly was dismissed: its subject and kind are quiet now, and can't be taken care of any more."""

    code = "ANOMALY_DISMISSED"
    message = "The anomaly was dismissed"


class CustomerIsErased(Refusal):
    """The licence's customer was erased: nothing personal can be kept for it any more."""

    code = "CUSTOMER_ERASED"
    message = "The customer's personal data was erased; nothing personal can be kept for this license"


class AnswerErased(Refusal):
    """The first answer to this idempotency key showed somebody who was erased since. Nothing is done again."""

    code = "ANSWER_ERASED"
    message = "The answer to this Idempotency-Key was erased with its customer's data"


class CorrectionRefused(Refusal):
    """The event can't be undone, or later ones stand in its way. `details`: event_id, why, perhaps in_the_way."""

    code = "CORRECTION_REFUSED"
    message = "The event can't be undone"


class NotYetSigned(Refusal):
    """The event, or any at all, is under no checkpoint yet. `retry_after` is in whole seconds."""

    code = "NOT_YET_SIGNED"
    message = "No checkpoint covers this yet"
    retry_after = 10


class HistoryAltered(Refusal):
    """An event, or the tree over the event log, is not what was signed. `details` may name the event's position."""

    code = "HISTORY_ALTERED"
    message = "The stored history is not what was signed: run `lizenzserver audit verify`"


class RateLimitExceeded(Refusal):
    """Too many requests. `retry_after` is in whole seconds."""

    code = "RATE_LIMIT_EXCEEDED"
    message = "Rate limit exceeded"

    def __init__(self, retry_after: int, message: str | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after = retry_after


class IdempotencyKeyReused(Refusal):
    """The idempotency key was used before with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"
    message = "This Idempotency-Key was used with another request body"


class IdempotencyInProgress(Refusal):
    """Another request with this idempotency key is not finished."""

    code = "IDEMPOTENCY_IN_PROGRESS"
    message = "A request with this Idempotency-Key is still in progress"


class ServiceUnavailable(Refusal):
    """The write can't be made durable now, or its outcome is unknown: repeat with the same idempotency key."""

    code = "SERVICE_UNAVAILABLE"
    message = "The service can't do this now; repeat with the same Idempotency-Key"

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MethodNotAllowed(Refusal):
    """The path exists, the method does not."""

    code = "METHOD_NOT_ALLOWED"
    message = "Method not allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(None, allowed=list(allowed))
        self.allowed = allowed


class PayloadTooLarge(Refusal):
    """The body is over the route's limit. `details`: limit_bytes."""

    code = "PAYLOAD_TOO_LARGE"
    message = "The request body is too large"
