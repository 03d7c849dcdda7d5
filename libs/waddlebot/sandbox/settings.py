"""The settings of the process `modules`. It is told no more than this: no database, no key of anybody else."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ..base.settings import CommaList, Secret, Settings, WebURL

PORT = 8030


class HostSettings(Settings):
    prefix: ClassVar[str] = "MODULES"

    database_url: str = Field("", alias="MODULES_HAS_NO_DATABASE", description="It has none.")
    host: str = Field("127.0.0.1", alias="WADDLEBOT_HOST", description="Address to listen on.")
    port: int = Field(PORT, alias="WADDLEBOT_PORT", ge=1, le=65535, description="Port to listen on.")
    host_key: Secret | None = Field(
        None, alias="MODULE_HOST_KEY", description="What the router shows when it has a function run."
    )
    packages_url: WebURL | None = Field(
        None,
        alias="MODULES_PACKAGES_URL",
        description="CORE_API_URL with /marketplace/packages, unless set.",
    )
    unfenced: bool = Field(
        False,
        alias="COMMUNITY_MODULES_UNFENCED",
        description="Run strangers' code also where nothing fences it in: it can do all that this user can.",
    )
    egress_allow: CommaList = Field(
        default_factory=list,
        alias="MODULES_EGRESS_ALLOW",
        description="host:port or CIDR list that modules may reach if they declare it, beside public hosts.",
    )
    most_processes: int = Field(
        100, alias="MODULES_MAX_PROCESSES", ge=1, le=2000, description="Processes of modules that are kept at once."
    )
    idle_s: float = Field(300, alias="MODULES_IDLE", gt=0, description="A process is ended when idle so long, s.")
    most_calls: int = Field(1000, alias="MODULES_MAX_CALLS", ge=1, description="A process ends after so many calls.")
    parked_s: float = Field(
        600,
        alias="MODULES_PARKED",
        gt=0,
        description="What keeps failing in a community rests there so long, s.",
    )

    @property
    def where_packages_are(self) -> str:
        return (self.packages_url or f"{self.core_api_url.rstrip('/')}/marketplace/packages").rstrip("/")
