"""The errors a user, a caller or an operator can meet. A docstring is the default message."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class WaddleBotError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or type(self).__name__)
        self.details = details
        super().__init__(self.message)


class ConfigError(WaddleBotError):
    """A setting is missing or wrong."""

    code = "config"


class UserError(WaddleBotError):
    """That did not work."""

    code = "user_error"
    http_status = 422


class UsageError(UserError):
    """That command needs other words."""

    code = "usage"


class Conflict(UserError):
    """That is already so."""

    code = "conflict"
    http_status = 409


class NotFound(UserError):
    """There is no such thing here."""

    code = "not_found"
    http_status = 404


class BadRequest(WaddleBotError):
    """The request is not valid JSON."""

    code = "bad_request"
    http_status = 400


class Invalid(WaddleBotError):
    """A field is missing or wrong."""

    code = "invalid"
    http_status = 422

    def __init__(
        self, message: str | None = None, *, field: str = "", fields: list[dict[str, str]] | None = None, **details: Any
    ) -> None:
        """Its details name the first field that is wrong, and in `fields` each with its problem, whoever found it."""
        super().__init__(message, **details)
        if field and not fields:
            fields = [{"field": field, "problem": self.message}]
        if fields:
            self.details |= {"field": field or fields[0]["field"], "fields": fields}


class UnsupportedMediaType(WaddleBotError):
    """Send the body as application/json."""

    code = "unsupported_media_type"
    http_status = 415


class TooLarge(WaddleBotError):
    """The request is too large."""

    code = "too_large"
    http_status = 413


class NotAuthenticated(WaddleBotError):
    """Send a valid key in the X-API-Key header."""

    code = "not_authenticated"
    http_status = 401


class NotAllowed(WaddleBotError):
    """This account may not do that."""

    code = "not_allowed"
    http_status = 403


class BadSignature(NotAllowed):
    """The signature does not match."""

    code = "bad_signature"


class Busy(WaddleBotError):
    """Too much work is waiting. Try again in a moment."""

    code = "busy"
    http_status = 503
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class RateLimited(Busy):
    """That was too often. Try again in a moment."""

    code = "rate_limited"
    http_status = 429


class NotConfigured(Busy):
    """This module has no credentials yet."""

    code = "not_configured"
    retryable = False


class UpstreamError(WaddleBotError):
    """Another service failed."""

    code = "upstream"
    http_status = 502
    retryable = True


class UpstreamUnreachable(UpstreamError):
    """Another service cannot be reached, so it has not heard of the request either."""


class UpstreamTimeout(UpstreamError):
    """Another service took too long."""

    code = "upstream_timeout"
    http_status = 504


class UpstreamRefused(UpstreamError):
    """Another service refused the request."""

    code = "upstream_refused"
    retryable = False


class ProviderError(UpstreamError):
    """Somebody outside of the fleet did not do what they were asked.

    `status` is that of their answer, 0 without one; `words` are their own, as they may be shown to people.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int = 0,
        words: str = "",
        retry_after_s: float = 1.0,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.status = status
        self.words = words
        self.retry_after_s = retry_after_s


class Refused(ProviderError, UpstreamRefused):
    """A provider said no, and will say so again."""

    code = "refused"

    @property
    def is_about_token(self) -> bool:
        """Whether it is the key or token that a provider does not take, which a new one may cure."""
        return self.status == NotAuthenticated.http_status


class Away(ProviderError, UpstreamUnreachable):
    """A provider is not reached, so nothing was done there. Try again in a moment."""

    code = "away"


class Later(ProviderError):
    """A provider asks to wait for `retry_after_s`, and nothing was done there. Try again in a moment."""

    code = "later"


class Unclear(ProviderError):
    """A provider broke off, so nobody knows whether it did what it was asked."""

    code = "unclear"


class EgressDenied(UpstreamRefused):
    """That address is not one the fleet may call. See EGRESS_ALLOW."""

    code = "egress_denied"
