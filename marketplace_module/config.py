"""The marketplace's settings."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from waddlebot.base.settings import Secret, Settings


class MarketplaceSettings(Settings):
    prefix: ClassVar[str] = "MARKETPLACE"

    community_modules_run: Literal["local", "lambda", "openwhisk"] = Field(
        "local",
        alias="COMMUNITY_MODULES_RUN",
        description="Where packages run: on the fleet's own host, or as functions that the operator put there.",
    )
    grace_days: float = Field(
        7, alias="SUBSCRIPTION_GRACE_DAYS", ge=0, le=365, description="Paid modules go on so long unpaid, days."
    )
    warning_days: float = Field(
        3, alias="SUBSCRIPTION_WARNING_DAYS", ge=0, le=365, description="Owners are warned so long before, days."
    )
    payments_webhook_secret: Secret | None = Field(
        None, alias="PAYMENTS_WEBHOOK_SECRET", description="What Stripe signs its webhooks with (whsec_…)."
    )
