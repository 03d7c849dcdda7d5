"""The router's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints, model_validator
from waddlebot.base.contracts import PLATFORMS, MessageType
from waddlebot.base.settings import Secret, Settings, WebURL

# The specification's values. What it leaves open earns nothing: who leaves, is warned or thrown out, renews or hosts.
DEFAULT_POINTS: dict[str, float] = {
    "chatMessage": 5,
    "subscription": 50,
    "follow": 10,
    "donation": 1,  # for each whole unit of its currency
    "cheer": 1,  # for each bit
    "raid": 30,
    "host": 0,
    "subgift": 60,
    "resub": 0,
    "reaction": 2,
    "slack.reaction": 3,
    "member_join": 10,
    "member_leave": 0,
    "voice_join": 8,
    "voice_leave": 0,
    "voice_time": 1,  # for each minute
    "boost": 100,
    "ban": -10,
    "kick": 0,
    "timeout": 0,
    "warn": 0,
    "file_share": 15,
    "app_mention": 8,
    "channel_join": 0,
    "stream_online": 0,
    "stream_offline": 0,
}
# So large that nobody needs more, so small that a ledger of many years still fits into 64 bits.
MAX_POINTS = 1_000_000


def _read_points(value: Any) -> Any:
    """`{"follow": 20}` or `follow=20, slack.reaction=5`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    return {name.strip(): points for name, _, points in pairs}


def _complete_points(points: dict[str, float]) -> dict[str, float]:
    known = {str(kind) for kind in MessageType}
    for name, value in points.items():
        platform, dot, kind = name.rpartition(".")
        if kind not in known or (dot and platform not in PLATFORMS):
            raise ValueError(f"{name!r} is neither a message type nor platform.type")
        if not abs(value) <= MAX_POINTS:
            raise ValueError(f"{name} must be between -{MAX_POINTS} and {MAX_POINTS}")
    return {**DEFAULT_POINTS, **points}


PointsByType = Annotated[dict[str, float], BeforeValidator(_read_points), AfterValidator(_complete_points)]


def _api_host(text: str) -> str:
    url = text.rstrip("/") if "://" in text else f"https://{text.rstrip('/')}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be a host, host:port, or a URL that begins with http:// or https://")
    return url


def _auth_key(secret: SecretStr) -> SecretStr:
    uuid, _, key = secret.get_secret_value().partition(":")
    if not uuid or not key:
        raise ValueError("must be uuid:key, as `wsk property get --auth` prints it")
    return secret


APIHost = Annotated[str, AfterValidator(_api_host)]
AuthKey = Annotated[Secret, AfterValidator(_auth_key)]
FunctionPrefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,60}$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_@.-]{0,254}$")]


def missing(credentials: Mapping[str, object]) -> list[str]:
    """The names of those that are not set."""
    return [name for name, value in credentials.items() if not value]


class RouterSettings(Settings):
    prefix: ClassVar[str] = "ROUTER"

    max_workers: int = Field(
        20, alias="ROUTER_MAX_WORKERS", ge=1, le=500, description="Threads for each target that commands run on."
    )
    max_concurrent: int = Field(
        100,
        alias="ROUTER_MAX_CONCURRENT",
        ge=1,
        description="Executions per worker thread that may wait for a target before more of them fail at once.",
    )
    execution_timeout_s: float = Field(
        30, alias="ROUTER_REQUEST_TIMEOUT", gt=0, le=900, description="Upper bound of a command's own timeout, s."
    )
    answer_wait_s: float = Field(
        1.0,
        alias="ROUTER_ANSWER_WAIT",
        ge=0,
        le=30,
        description="Events are answered within this; what is not finished comes through the outbox, s.",
    )
    lease_s: float = Field(
        3.0,
        alias="ROUTER_LEASE",
        ge=0.1,
        le=300,
        description="A router that has not renewed its hold on an event for this long is taken for dead, s.",
    )
    command_cache_ttl_s: float = Field(
        300, alias="ROUTER_COMMAND_CACHE_TTL", gt=0, description="Commands are reread after this, s."
    )
    entity_cache_ttl_s: float = Field(
        600, alias="ROUTER_ENTITY_CACHE_TTL", gt=0, description="Entities and people are reread after this, s."
    )
    session_ttl_s: int = Field(
        3600, alias="SESSION_TTL", ge=60, description="A session is kept in Redis for late answers this long, s."
    )
    session_prefix: str = Field("waddlebot:session:", alias="SESSION_PREFIX", description="Redis key prefix.")

    max_claims: int = Field(
        5, alias="MAX_CLAIMS", ge=0, description="Entities that a container may hold which does not say how many."
    )
    browser_source_url: WebURL = Field(
        "http://127.0.0.1:8027/browser/source",
        alias="BROWSER_SOURCE_API_URL",
        description="Where overlay responses are shown.",
    )

    module_state_url: WebURL | None = Field(
        None,
        alias="MODULE_STATE_URL",
        description="Where community modules keep what they remember; BASE_URL with /marketplace/state unless set.",
    )
    default_rate_limit: int = Field(
        60,
        alias="ROUTER_DEFAULT_RATE_LIMIT",
        ge=0,
        description="Uses of a command a minute and person; 0 for no limit.",
    )
    listen_rate_limit: int = Field(
        20,
        alias="ROUTER_LISTEN_RATE_LIMIT",
        ge=0,
        description="Lines of plain chat a minute, in one channel, that call one module which listens; 0 for no limit.",
    )
    points: PointsByType = Field(
        DEFAULT_POINTS,
        alias="REPUTATION_POINTS",
        description="What an event earns: a JSON object or name=points,… over the defaults; platform.type before type.",
    )
    rbac_max_workers: int = Field(
        10, alias="RBAC_MAX_WORKERS", ge=1, le=100, description="Threads for roles and permissions in bulk."
    )

    circuit_failures: int = Field(
        5,
        alias="ROUTER_CIRCUIT_FAILURES",
        ge=1,
        description="A target that has not answered so many times in a row is left alone for a while.",
    )
    circuit_rest_s: float = Field(
        5.0,
        alias="ROUTER_CIRCUIT_REST",
        gt=0,
        description="After this one call tries whether a target that was left alone answers again, s.",
    )

    aws_region: str = Field("us-east-1", alias="AWS_REGION", description="Where the Lambda functions are.")
    aws_access_key_id: Secret | None = Field(None, alias="AWS_ACCESS_KEY_ID", description="AWS account for Lambda.")
    aws_secret_access_key: Secret | None = Field(None, alias="AWS_SECRET_ACCESS_KEY", description="Its secret.")
    aws_session_token: Secret | None = Field(
        None, alias="AWS_SESSION_TOKEN", description="Goes with credentials that are lent for a time."
    )
    aws_endpoint_url_lambda: str | None = Field(
        None, alias="AWS_ENDPOINT_URL_LAMBDA", description="Another place than AWS that speaks Lambda's API."
    )
    lambda_function_prefix: FunctionPrefix = Field(
        "waddlebot-", alias="LAMBDA_FUNCTION_PREFIX", description="Put before a command's location_url."
    )
    openwhisk_api_host: APIHost | None = Field(
        None, alias="OPENWHISK_API_HOST", description="OpenWhisk; https unless it says otherwise."
    )
    openwhisk_auth_key: AuthKey | None = Field(None, alias="OPENWHISK_AUTH_KEY", description="uuid:key of OpenWhisk.")
    portal_url: WebURL | None = Field(None, alias="PORTAL_URL", description="Where !why links to; nowhere unless set.")
    openwhisk_namespace: Namespace = Field("waddlebot", alias="OPENWHISK_NAMESPACE", description="OpenWhisk namespace.")
    module_host_url: WebURL = Field(
        "http://127.0.0.1:8030", alias="MODULE_HOST_URL", description="Where the local host of community modules is."
    )
    module_host_key: Secret | None = Field(
        None, alias="MODULE_HOST_KEY", description="What is shown to the local host of community modules."
    )

    @property
    def aws_credentials(self) -> dict[str, object]:
        """What has to be set, all of it, before commands can be Lambda functions."""
        return {"AWS_ACCESS_KEY_ID": self.aws_access_key_id, "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key}

    @property
    def local_host_credentials(self) -> dict[str, object]:
        """What has to be set before commands can run on this fleet's own host of community modules."""
        return {"MODULE_HOST_KEY": self.module_host_key}

    @property
    def openwhisk_credentials(self) -> dict[str, object]:
        """What has to be set, all of it, before commands can be OpenWhisk actions."""
        return {"OPENWHISK_API_HOST": self.openwhisk_api_host, "OPENWHISK_AUTH_KEY": self.openwhisk_auth_key}

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        for credentials in (self.aws_credentials, self.openwhisk_credentials):
            unset = missing(credentials)
            if unset and len(unset) < len(credentials):
                raise ValueError(f"{', '.join(unset)} must be set as well, or none of {', '.join(credentials)}")
        return self
