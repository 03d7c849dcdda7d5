"""The labels module's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.base.settings import Settings


class LabelsSettings(Settings):
    prefix: ClassVar[str] = "LABELS_CORE"

    max_workers: int = Field(
        20, alias="MAX_WORKERS", ge=1, le=200, description="Threads of bulk work: long jobs, and roles to be changed."
    )
    cache_ttl_s: float = Field(
        300, alias="CACHE_TTL", gt=0, description="Labels and searches are read anew after this, s; a change at once."
    )
    bulk_operation_size: int = Field(
        1000, alias="BULK_OPERATION_SIZE", ge=1, le=1000, description="Labels in one call, and in one step of a job."
    )
