"""Settings come from the environment only, are read once, and never change.

Names are the spec's. Where several modules share a process, `<MODULE>_<NAME>` is read before `<NAME>`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from .errors import ConfigError

PLACEHOLDERS = (
    *("your_", "change_me", "changeme", "placeholder", "sk-your", "xoxb-your", "xapp-your"),
    *("admin_password", "smtp_password"),
)


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def pydal_url(url: str) -> str:
    """PyDAL knows PostgreSQL with native booleans as postgres3; the spec writes postgresql."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres", "postgres2", "postgres3"):
        raise ValueError("must be a postgresql:// URL")
    if not parts.hostname or not parts.path.strip("/"):
        raise ValueError("must name a host and a database")
    return urlunsplit(parts._replace(scheme="postgres3"))


def _no_placeholder(value: str | SecretStr) -> str | SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if any(mark in text.lower() for mark in PLACEHOLDERS):
        raise ValueError("is still the placeholder from the documentation; set a real one")
    return value


def _web_url(url: str) -> str:
    return _url_of(url, "http", "https")


def _socket_url(url: str) -> str:
    return _url_of(url, "ws", "wss")


def _url_of(url: str, *schemes: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"must begin with {' or '.join(f'{each}://' for each in schemes)} and a host")
    return url


def _without_slash(url: str) -> str:
    return url.rstrip("/")


def _named_url(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    parts = urlsplit(url)
    if not name.strip() or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not name=http://host:port")
    return name.strip(), url.strip().rstrip("/")


def _split_urls(value: Any) -> Any:
    return [_named_url(each) for each in _split(value)] if isinstance(value, str) else value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_split)]
ModuleURLs = Annotated[list[tuple[str, str]], NoDecode, BeforeValidator(_split_urls)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
DatabaseURL = Annotated[str, AfterValidator(pydal_url)]
Secret = Annotated[SecretStr, AfterValidator(_no_placeholder)]
# What a provider shows to everybody: an application's number, a client's id.
Identifier = Annotated[str, AfterValidator(_no_placeholder)]
# Without a slash at its end, or with exactly one.
BaseURL = Annotated[str, AfterValidator(_web_url), AfterValidator(_without_slash)]
FolderURL = Annotated[BaseURL, AfterValidator(lambda url: url + "/")]
# As it is written.
WebURL = Annotated[str, AfterValidator(_web_url)]
SocketURL = Annotated[str, AfterValidator(_socket_url)]


class _Environment(PydanticBaseSettingsSource):
    """The process environment, `<MODULE>_<NAME>` before `<NAME>`; an empty value counts as unset."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str, environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self.prefix = prefix
        self.environ = environ

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field.alias or field_name.upper()
        value = self.environ.get(f"{self.prefix}_{name}") or self.environ.get(name) or None
        return value, name, False

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in found if value is not None}


class Settings(BaseSettings):
    """What every module has. A module's own Settings extend this and set `prefix`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    prefix: ClassVar[str] = ""

    database_url: DatabaseURL = Field(alias="DATABASE_URL", description="PostgreSQL primary.")
    read_replica_url: DatabaseURL | None = Field(
        None, alias="READ_REPLICA_URL", description="Streaming replica for lookups; the primary without one."
    )
    replica_max_lag_s: float = Field(
        5.0,
        alias="REPLICA_MAX_LAG_S",
        ge=1,
        le=60,
        description="Lookups read the primary while the replica may be older than this, s.",
    )
    database_pool_size: int = Field(
        # Fewer than the busy threads would open and close a connection for each transaction beyond it.
        40,
        alias="DATABASE_POOL_SIZE",
        ge=1,
        le=500,
        description="Idle connections kept per process and database.",
    )
    redis_host: str = Field("127.0.0.1", alias="REDIS_HOST", description="Redis or Valkey host.")
    redis_port: int = Field(6379, alias="REDIS_PORT", ge=1, le=65535, description="Redis or Valkey port.")
    redis_username: str | None = Field(None, alias="REDIS_USERNAME", description="Redis user; nobody's name if empty.")
    redis_password: SecretStr | None = Field(None, alias="REDIS_PASSWORD", description="Redis password.")
    redis_db: int = Field(0, alias="REDIS_DB", ge=0, description="Redis database number.")

    core_api_url: WebURL = Field(
        "http://127.0.0.1:8000", alias="CORE_API_URL", description="Where the router serves /api and /router."
    )
    router_api_url: WebURL | None = Field(
        None, alias="ROUTER_API_URL", description="CORE_API_URL with /router, unless the router lives elsewhere."
    )
    api_key: Secret | None = Field(
        None, alias="WADDLEBOT_API_KEY", description="This service's own key; sent with every call it makes."
    )
    actor_key: Secret | None = Field(
        None,
        alias="WADDLEBOT_ACTOR_KEY",
        description="The portal has private:<base64>, to sign for people; all others public:<base64>.",
    )
    encryption_keys: Secret | None = Field(
        None,
        alias="WADDLEBOT_ENCRYPTION_KEYS",
        description="id:base64,… of 32 bytes each, for secrets at rest; the first one seals.",
    )
    request_timeout_s: float = Field(
        30, alias="REQUEST_TIMEOUT", gt=0, le=900, description="Give up on another service after this, s."
    )
    calls_out_at_once: int = Field(
        20,
        alias="CALLS_OUT_AT_ONCE",
        ge=1,
        le=500,
        description="Commands of a module that may wait for a provider at once; more are told to try again.",
    )
    egress_allow: CommaList = Field(
        default_factory=list,
        alias="EGRESS_ALLOW",
        description="host:port or CIDR list that the SSRF guard lets webhooks through to; no key is shown there.",
    )

    module_urls: ModuleURLs = Field(
        default_factory=list,
        alias="MODULE_URLS",
        description="name=url,… of modules outside this checkout that are the operator's; they are shown our keys.",
    )

    require: CommaList = Field(
        default_factory=list,
        alias="WADDLEBOT_REQUIRE",
        description="Modules that must have credentials: the process ends when one has none.",
    )

    base_url: WebURL = Field(
        "http://127.0.0.1:8000", alias="BASE_URL", description="How browsers and platforms reach this fleet."
    )
    module_name: str | None = Field(None, alias="MODULE_NAME", description="The manifest's, unless set.")
    module_version: str | None = Field(None, alias="MODULE_VERSION", description="The manifest's, unless set.")
    module_port: int | None = Field(
        None, alias="MODULE_PORT", ge=1, le=65535, description="The manifest's, unless set."
    )
    module_url: WebURL | None = Field(
        None,
        alias="MODULE_URL",
        description="Where others reach this module, all its replicas alike; http://127.0.0.1:<port> unless set.",
    )
    metrics_public: bool = Field(False, alias="METRICS_PUBLIC", description="Serve <prefix>/metrics without a key.")

    log_level: LogLevel = Field("INFO", alias="LOG_LEVEL", description="Least severe line written.")
    log_console_level: LogLevel | None = Field(
        None,
        alias="LOG_CONSOLE_LEVEL",
        description="Least severe line shown on the console; LOG_LEVEL unless set.",
    )
    log_dir: Path = Field(Path("/var/log/waddlebotlog"), alias="LOG_DIR", description="Folder of the log files.")
    log_role: str = Field("", alias="LOG_ROLE", description="Added to file names where processes share LOG_DIR.")
    enable_syslog: bool = Field(False, alias="ENABLE_SYSLOG", description="Also send every line to syslog.")
    syslog_host: str = Field("localhost", alias="SYSLOG_HOST", description="Syslog server.")
    syslog_port: int = Field(514, alias="SYSLOG_PORT", ge=1, le=65535, description="Syslog UDP port.")
    syslog_facility: str = Field(
        "LOCAL0", alias="SYSLOG_FACILITY", pattern="^(USER|DAEMON|LOCAL[0-7])$", description="Syslog facility."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls, cls.prefix, os.environ)

    @property
    def router_url(self) -> str:
        return (self.router_api_url or f"{self.core_api_url.rstrip('/')}/router").rstrip("/")

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises: ConfigError, one line that names every wrong setting."""
        return load(cls)


SomeSettings = TypeVar("SomeSettings", bound=BaseSettings)


def load(kind: type[SomeSettings]) -> SomeSettings:
    try:
        return kind()
    except ValidationError as err:
        raise ConfigError(f"Bad settings: {'; '.join(map(_problem, err.errors()))}") from err


def check_what_is_set() -> None:
    """Refuse what every process of a fleet would refuse, before any of them starts. Raises: ConfigError."""
    try:
        Settings()
    except ValidationError as err:
        if wrong := [each for each in err.errors() if each["type"] != "missing"]:
            raise ConfigError(f"Bad settings: {'; '.join(map(_problem, wrong))}") from err


def _problem(error: Any) -> str:
    """One wrong setting by the name that it has in the environment. What was given is left out, it may be a secret."""
    name = ".".join(map(str, error["loc"])) or "settings"
    if error["type"] == "missing":
        return f"{name} is not set"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"
