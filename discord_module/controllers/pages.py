"""The pages on which people add the bot to their server."""

from __future__ import annotations

from pathlib import Path

from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import Pages

from ..services.oauth_service import Added, module_scopes
from ..services.shards import NO_INTENTS, ShardReports

FEATURES = (
    ("It answers commands", "as messages and as slash commands, in every channel that it can see"),
    ("It counts what people do", "messages, reactions, joining, time in voice and boosts earn points"),
    ("It helps to moderate", "by the rules that you set: it deletes a message, warns or times somebody out"),
    ("It gives roles", "for labels, and never one above its own"),
)


class ConsentPages(Pages):
    """What is said on each page."""

    def __init__(self, shards: ShardReports) -> None:
        super().__init__("/discord/auth", Path(__file__).parents[1], prefix="/discord", platform="discord")
        self._shards = shards

    def start(self, *, community: str, is_possible: bool) -> Raw:
        """What the bot will do in a server, and the button that adds it; or who has to do what first."""
        title = "Add WaddleBot to your Discord server"
        more = tuple((each.module, f"{each.why} ({each.scope})") for each in module_scopes())
        features = FEATURES + more
        return self.page("start.html", title, features=features, community=community, is_possible=is_possible)

    def added(self, added: Added) -> Raw:
        """What works now, and what is missing for the rest."""
        return self.page(
            "added.html",
            f"WaddleBot is in {added.guild_name or 'your server'}",
            server=added.guild_name or added.guild_id,
            community=added.settled.community_name,
            slug=added.settled.slug,
            is_new=added.settled.is_new,
            states=[(True, "Slash commands", "appear in the server within a minute"), self._connection()],
        )

    def _connection(self) -> tuple[bool, str, str]:
        """Whether the connection works, and that in words."""
        shards = self._shards.list_shards()
        states = {each["state"] for each in shards}
        if states == {"connected"}:
            return True, "Messages, reactions, voice", "are heard"
        detail = next((each["detail"] for each in shards if each["detail"]), "")
        if detail == NO_INTENTS:
            return False, "Messages are not heard yet", detail
        return False, "The connection to Discord is being made", detail or "this takes a moment"
