"""How the AI is, for whoever may know that much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waddlebot.base.errors import UpstreamError
from waddlebot.module.service import Service

from ..services.ai_service import AIService
from ..services.profiles import Profiles

HOW_TO_SET_UP = (
    "Set AI_HOST for Ollama, OPENAI_API_KEY for OpenAI, or MCP_SERVER_URL with MCP_TOOL; a community may keep an OpenAI"
    " key of its own."
)


@dataclass(frozen=True, slots=True)
class AIHealth:
    service: Service
    ai: AIService
    profiles: Profiles

    def read(self) -> dict[str, Any]:
        """The fleet's own providers; what communities brought is theirs."""
        states = self.states()
        checks = self.service.run_checks()
        ok = all(each["ok"] for each in checks.values())
        configured = self.service.configured
        status = "unconfigured" if not configured else "healthy" if ok else "degraded"
        shown = ("name", "status", "breaker", "last_error")
        return {
            "success": True,
            "status": status,
            "detail": "" if configured else HOW_TO_SET_UP,
            "provider": next((each["name"] for each in states if each["is_default"]), None),
            "providers": [{name: each[name] for name in shown} for each in states if each["configured"]],
        }

    def states(self) -> list[dict[str, Any]]:
        order = self.profiles.of_community(None, has_own_key=False).profile.order
        return self.ai.states(None, order)

    def check(self) -> str:
        """A health check. Raises: UpstreamError when nobody of those that are set up can be asked at the moment."""
        if not self.service.configured:
            return HOW_TO_SET_UP
        ours = [each for each in self.states() if each["configured"]]
        said = ", ".join(f"{each['name']} {each['status']}" for each in ours)
        if ours and all(each["status"] != "ready" for each in ours):
            raise UpstreamError(f"Nobody answers: {said}.")
        return said
