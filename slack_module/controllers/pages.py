"""The pages that people see on the way into a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import Pages

from ..services.oauth_service import Installed, module_scopes


class ConsentPages(Pages):
    """What is said on each page."""

    def __init__(self, *, authorize_url: str) -> None:
        super().__init__(
            "/slack/oauth",
            Path(__file__).parents[1],
            prefix="/slack",
            platform="slack",
            leads_to=authorize_url,
            start="/slack/install",
        )

    def install(self, *, community: str) -> Raw:
        return self.page("install.html", "Let WaddleBot into your workspace", community=community, more=module_scopes())

    def installed(self, found: Installed, *, cookies: Sequence[str]) -> Raw:
        """What works now, and what is missing for the rest."""
        return self.page(
            "installed.html",
            f"WaddleBot is in {found.team_name}",
            cookies=cookies,
            missing=found.missing_scopes,
            community=found.settled.community_name,
            slug=found.settled.slug,
            may_delete=found.may_delete,
        )
