"""Whether a request is Slack's: its signature over the raw body, a moment ago."""

from __future__ import annotations

from collections.abc import Mapping

from waddlebot.base.errors import BadSignature


class BadSlackSignature(BadSignature):
    """The signature does not match, or the request is older than five minutes."""

    http_status = 401


def check_signature(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises: BadSlackSignature."""
    from slack_sdk.signature import SignatureVerifier

    try:
        is_slacks = SignatureVerifier(secret).is_valid_request(body, dict(headers))
    except (ValueError, TypeError, OverflowError) as err:
        # A timestamp that is no number, or larger than any; a signature that is not ASCII; a body that is not UTF-8.
        raise BadSlackSignature() from err
    if not is_slacks:
        raise BadSlackSignature()
