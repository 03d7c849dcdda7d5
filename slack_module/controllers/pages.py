"""The pages that people see on the way into a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import Pages, escape

from ..services.oauth_service import Installed, module_scopes

AUBERGINE = ("#611f69", "#cf9fd6")
DELETES = "It may delete messages that break a rule of yours."
WARNS = "It warns about messages that break a rule of yours; it may not delete them."


class ConsentPages(Pages):
    """What is said on each page. Values are escaped here, once."""

    def __init__(self, *, authorize_url: str) -> None:
        super().__init__(Path(__file__).parents[1] / "templates", accent=AUBERGINE, leads_to=authorize_url)

    def install(self, *, community: str) -> Raw:
        return self.page(
            "Let WaddleBot into your workspace", self.fill("install", community=escape(community), more=_more())
        )

    def installed(self, found: Installed, *, headers: Mapping[str, str]) -> Raw:
        """What works now, and what is missing for the rest."""
        missing = (
            f'<p class="trouble"><b>Something is missing.</b> Slack did not grant'
            f" {escape(', '.join(found.missing_scopes))}. Add that under “OAuth &amp; Permissions” of the app, then"
            ' <a href="/slack/install">install it again</a>.</p>'
            if found.missing_scopes
            else ""
        )
        body = self.fill(
            "installed",
            missing=missing,
            community=escape(found.settled.community_name),
            deletes=DELETES if found.may_delete else WARNS,
        )
        return self.page(f"WaddleBot is in {found.team_name}", body, headers=headers)


def _more() -> str:
    """What modules ask for beside the bot's own work."""
    items = "".join(
        f"<li><b>{escape(each.module)}</b><span>{escape(each.why)}</span>"
        f"<small><code>{escape(each.scope)}</code></small></li>"
        for each in module_scopes()
    )
    return f"<p>Its modules also ask for:</p><ul>{items}</ul>" if items else ""
