"""The router's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.settings import Secret, Settings


class RouterSettings(Settings):
    prefix: ClassVar[str] = "ROUTER"

    max_workers: int = Field(
        20, alias="ROUTER_MAX_WORKERS", ge=1, le=500, description="Threads for each target that commands run on."
    )
    max_concurrent: int = Field(
        100,
        alias="ROUTER_MAX_CONCURRENT",
        ge=1,
        description="Executions per worker thread that may wait before new events are answered 503.",
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

    browser_source_url: str = Field(
        "http://127.0.0.1:8027/browser/source",
        alias="BROWSER_SOURCE_API_URL",
        description="Where overlay responses are shown.",
    )

    default_rate_limit: int = Field(
        60,
        alias="ROUTER_DEFAULT_RATE_LIMIT",
        ge=0,
        description="Uses of a command a minute and person; 0 for no limit.",
    )

    aws_region: str = Field("us-east-1", alias="AWS_REGION", description="Where the Lambda functions are.")
    aws_access_key_id: str | None = Field(None, alias="AWS_ACCESS_KEY_ID", description="AWS account for Lambda.")
    aws_secret_access_key: Secret | None = Field(None, alias="AWS_SECRET_ACCESS_KEY", description="Its secret.")
    lambda_function_prefix: str = Field(
        "waddlebot-", alias="LAMBDA_FUNCTION_PREFIX", description="Put before a command's location_url."
    )
    openwhisk_api_host: str | None = Field(
        None, alias="OPENWHISK_API_HOST", description="OpenWhisk; https unless it says otherwise."
    )
    openwhisk_auth_key: Secret | None = Field(None, alias="OPENWHISK_AUTH_KEY", description="uuid:key of OpenWhisk.")
    openwhisk_namespace: str = Field("waddlebot", alias="OPENWHISK_NAMESPACE", description="OpenWhisk namespace.")
