"""The pages that streamers see on their way to Twitch and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import Pages

from ..services.oauth_service import BotGranted, Joined, LeaveAsked, Left
from ..services.subscription_kinds import MODERATION, Feature, module_features


class ConsentPages(Pages):
    """What is said on each page."""

    def __init__(self, *, auth_base_url: str) -> None:
        super().__init__(
            "/twitch/auth", Path(__file__).parents[1], prefix="/twitch", platform="twitch", leads_to=auth_base_url
        )

    def start(self, features: Iterable[Feature], *, community: str) -> Raw:
        title = "Let the bot into your channel"
        return self.page("start.html", title, features=features, community=community, moderation=MODERATION)

    def joined(self, done: Joined, *, bot: str) -> Raw:
        """What works now, what does not, and what to do about it."""
        title = "The bot is in your channel" if done.is_heard else "The bot cannot hear your chat yet"
        others = [(slug, name) for slug, name in done.owned if slug != done.home.slug]
        return self.page("joined.html", title, done=done, bot=bot, others=others)

    def bot_granted(self, done: BotGranted) -> Raw:
        if not done.missing:
            return self.message("The bot is ready", f"{done.login} may read, write and moderate wherever it is let in.")
        return self.message(
            "The bot may not do everything",
            f"{done.login} has not granted {', '.join(done.missing)}. Without user:bot, user:read:chat and"
            " user:write:chat it hears and says nothing; without the others it cannot moderate.",
            action=("Consent again", "/twitch/auth/bot/login"),
        )

    def bot(self) -> Raw:
        return self.page("bot.html", "The bot's own account", features=module_features("bot"))

    def leave(self) -> Raw:
        return self.page("leave.html", "Take the bot out of your channel")

    def confirm(self, asked: LeaveAsked) -> Raw:
        started = asked.started
        return self.page(
            "confirm.html", "Really leave?", cookies=[started.set_cookie], name=asked.login, state=started.state
        )

    def left(self, done: Left) -> Raw:
        return self.page("left.html", "The bot has left", done=done)
