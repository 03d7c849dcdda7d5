"""How the broker is, for anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waddlebot.module.service import Service

from ..services.kong_client import HOW_TO_SET_UP, KongClient

# Whoever asks for health takes no answer within three seconds for a broker that is dead.
WITHIN_S = 1.5


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    service: Service
    kong: KongClient

    def read(self) -> dict[str, Any]:
        checks = self.service.run_checks()
        configured = self.service.configured
        ok = all(each["ok"] for each in checks.values())
        return {
            "success": True,
            "module": self.service.name,
            "version": self.service.version,
            "status": "unconfigured" if not configured else "healthy" if ok else "degraded",
            "detail": "" if configured else HOW_TO_SET_UP,
            "database": checks["database"]["detail"],
            "checks": checks,
        }

    def check(self) -> str:
        """A health check. Raises: KongUnavailable."""
        if not self.kong.is_there:
            return HOW_TO_SET_UP
        reachable = (self.kong.status(within_s=WITHIN_S)["database"] or {}).get("reachable")
        return "reachable" if reachable else "reachable, its database is not"
