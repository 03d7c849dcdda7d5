"""The inventory module's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.base.settings import Settings


class InventorySettings(Settings):
    prefix: ClassVar[str] = "INVENTORY"

    max_workers: int = Field(
        20, alias="MAX_WORKERS", ge=1, le=200, description="Changes of one call to /inventory/bulk made at once."
    )
    max_labels_per_item: int = Field(5, alias="MAX_LABELS_PER_ITEM", ge=0, le=50, description="Labels on one item.")
    cache_ttl_s: float = Field(300, alias="CACHE_TTL", gt=0, description="Statistics are counted anew after this, s.")
