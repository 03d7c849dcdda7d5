"""The broker's settings."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from waddlebot.base.api_key import KEY_LENGTH, MAX_KEY_LENGTH, is_key
from waddlebot.base.settings import Secret
from waddlebot.web.mail import MailSettings


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be http://host:port or https://host; name and password have settings of their own")
    return text.rstrip("/")


def _check_key(secret: Secret) -> Secret:
    if not is_key(secret.get_secret_value()):
        raise ValueError("is no key of this fleet; make one with: python -m waddlebot.fleet.containers env")
    return secret


AdminURL = Annotated[str, AfterValidator(_check_url)]
OwnKey = Annotated[Secret, AfterValidator(_check_key)]


class BrokerSettings(MailSettings):
    """Without KONG_ADMIN_URL there is no Kong, and the broker is `unconfigured`."""

    prefix: ClassVar[str] = "KONG_ADMIN_BROKER"

    kong_admin_url: AdminURL | None = Field(
        None, alias="KONG_ADMIN_URL", description="Kong's Admin API, which only the broker may reach; none: no Kong."
    )
    kong_admin_username: str | None = Field(
        None,
        alias="KONG_ADMIN_USERNAME",
        pattern="^[^:]+$",
        description="Basic auth of the Admin API.",
    )
    kong_admin_password: Secret | None = Field(
        None, alias="KONG_ADMIN_PASSWORD", description="That account's password; both or neither are sent."
    )
    broker_secret_key: Secret | None = Field(
        None, alias="BROKER_SECRET_KEY", description="What links that verify an e-mail address are signed with."
    )
    broker_api_key: OwnKey | None = Field(
        None, alias="BROKER_API_KEY", description="Makes the first super-admin, broker-root, and nothing else."
    )
    super_admin_group: str = Field(
        "super-admins",
        alias="SUPER_ADMIN_GROUP",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="The group in Kong that opens the broker's routes; kong/scripts/render.py reads it too.",
    )
    api_key_length: int = Field(
        KEY_LENGTH,
        alias="API_KEY_LENGTH",
        ge=KEY_LENGTH,
        le=MAX_KEY_LENGTH,
        description="Characters of a new key, wbot_ and its id included.",
    )
    require_email_verification: bool = Field(
        False,
        alias="REQUIRE_EMAIL_VERIFICATION",
        description="A new account opens nothing until the link in a mail to it is used.",
    )
    max_concurrent_requests: int = Field(
        10, alias="MAX_CONCURRENT_REQUESTS", ge=1, le=500, description="Calls of the Admin API at once, per process."
    )
    per_minute: int = Field(
        300, alias="BROKER_REQUESTS_PER_MINUTE", ge=1, description="Requests of one key; Kong's own limit is lower."
    )
    per_hour: int = Field(3000, alias="BROKER_REQUESTS_PER_HOUR", ge=1, description="The same within an hour.")

    @property
    def kong_auth(self) -> tuple[str, str] | None:
        if self.kong_admin_username is None or self.kong_admin_password is None:
            return None
        return self.kong_admin_username, self.kong_admin_password.get_secret_value()

    @model_validator(mode="after")
    def _can_verify(self) -> BrokerSettings:
        if self.require_email_verification and self.broker_secret_key is None:
            raise ValueError("REQUIRE_EMAIL_VERIFICATION needs BROKER_SECRET_KEY, which signs the links")
        return self
