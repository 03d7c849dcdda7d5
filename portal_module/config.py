"""The portal's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.web.site import SiteSettings


class PortalSettings(SiteSettings):
    prefix: ClassVar[str] = "PORTAL"

    fleet_calls: int = Field(
        32, alias="FLEET_CALLS", ge=1, le=500, description="Calls that pages make of other modules at the same time."
    )
