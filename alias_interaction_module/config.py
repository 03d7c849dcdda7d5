"""The alias module's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.base.settings import Settings


class AliasSettings(Settings):
    prefix: ClassVar[str] = "ALIAS"

    max_aliases: int = Field(500, alias="MAX_ALIASES", ge=1, le=10_000, description="Aliases in one community.")
