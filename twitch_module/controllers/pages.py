"""The pages that streamers see on their way to Twitch and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import Pages, escape

from ..services.oauth_service import BotGranted, Joined, LeaveAsked, Left
from ..services.subscription_kinds import MODERATION, Feature, module_features

HEARD = "Write <code>!help</code> in your chat: it answers."
NOT_HEARD = "It will answer in your chat once what follows is put right."
VIOLET = ("#6d3df0", "#9d7bff")


class ConsentPages(Pages):
    """What is said on each page. Values are escaped here, once."""

    def __init__(self, *, auth_base_url: str) -> None:
        super().__init__(Path(__file__).parents[1] / "templates", accent=VIOLET, leads_to=auth_base_url)

    def start(self, features: Iterable[Feature], *, bot: str, community: str) -> Raw:
        items = _items(features)
        chosen = f"<p>It will belong to your community <b>{escape(community)}</b>.</p>" if community else ""
        return self._page(
            "Let the bot into your channel",
            "start",
            bot=escape(bot),
            features=items,
            community=escape(community),
            chosen=chosen,
            moderation=escape(MODERATION.why),
            moderation_scopes=_scopes(MODERATION),
        )

    def joined(self, done: Joined, *, bot: str) -> Raw:
        """What works now, what does not, and what to do about it."""
        works = "".join(
            f'<li class="yes"><b>{escape(each.name)}</b><span>{escape(each.why)}</span></li>' for each in done.granted
        )
        lacks = "".join(
            f'<li class="no"><b>{escape(each.name)}</b><span>{escape(each.without.format(bot=bot))}</span></li>'
            for each in done.missing
        )
        troubles = "".join(f'<p class="trouble">{escape(each)}</p>' for each in done.troubles)
        others = [(slug, name) for slug, name in done.owned if slug != done.home.slug]
        links = ", ".join(f'<a href="/twitch/auth?community={quote(slug)}">{escape(name)}</a>' for slug, name in others)
        return self._page(
            "The bot is in your channel" if done.is_heard else "The bot cannot hear your chat yet",
            "joined",
            name=escape(done.name),
            community=escape(done.home.community_name),
            ownership="which is new and yours" if done.home.is_new else "where it was before",
            hint=HEARD if done.is_heard else NOT_HEARD,
            troubles=troubles,
            works=works,
            lacks=lacks,
            again='<p><a class="button" href="/twitch/auth">Consent again</a></p>' if done.missing else "",
            others=f"<p>Would you rather have it in {links}?</p>" if others else "",
        )

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
        return self._page("The bot's own account", "bot", features=_items(module_features("bot")))

    def leave(self) -> Raw:
        return self._page("Take the bot out of your channel", "leave")

    def confirm(self, asked: LeaveAsked) -> Raw:
        cookie = {"Set-Cookie": asked.started.set_cookie}
        parts = {"name": escape(asked.login), "state": escape(asked.started.state)}
        return self._page("Really leave?", "confirm", headers=cookie, **parts)

    def left(self, done: Left) -> Raw:
        troubles = "".join(f'<p class="trouble">{escape(each)}</p>' for each in done.troubles)
        return self._page("The bot has left", "left", name=escape(done.login), troubles=troubles)

    def _page(self, title: str, template: str, *, headers: dict[str, str] | None = None, **parts: str) -> Raw:
        return self.page(title, self.fill(template, **parts), headers=headers)


def _items(features: Iterable[Feature]) -> str:
    return "".join(
        f"<li><b>{escape(each.name)}</b><span>{escape(each.why)}</span>{_scopes(each)}</li>" for each in features
    )


def _scopes(feature: Feature) -> str:
    return "".join(f"<code>{escape(scope)}</code> " for scope in feature.scopes).join(("<small>", "</small>"))
