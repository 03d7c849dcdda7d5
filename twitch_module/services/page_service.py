"""The pages that streamers see on their way to Twitch and back. No script, nothing from elsewhere, dark and light."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from urllib.parse import quote, urlsplit

from .oauth_service import BotGranted, Joined, LeaveAsked, Left
from .subscription_kinds import MODERATION, Feature

HEARD = "Write <code>!help</code> in your chat: it answers."
NOT_HEARD = "It will answer in your chat once what follows is put right."
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


class PageService:
    """Renders pages from the folder templates/."""

    def __init__(self, folder: Path, *, auth_base_url: str) -> None:
        self._templates = {path.stem: Template(path.read_text("utf-8")) for path in folder.glob("*.html")}
        style = STYLE.search(self._templates["page"].template)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        # A form's answer may lead to Twitch, and browsers hold that against form-action too.
        parts = urlsplit(auth_base_url)
        self.headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none';"
                f" form-action 'self' {parts.scheme}://{parts.netloc}"
            ),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }

    def start(self, features: Iterable[Feature], *, bot: str, community: str) -> str:
        items = "".join(f"<li><b>{_(each.name)}</b><span>{_(each.why)}</span>{_scopes(each)}</li>" for each in features)
        chosen = f"<p>It will belong to your community <b>{_(community)}</b>.</p>" if community else ""
        return self._page(
            "Let the bot into your channel",
            "start",
            bot=_(bot),
            features=items,
            community=_(community),
            chosen=chosen,
            moderation=_(MODERATION.why),
            moderation_scopes=_scopes(MODERATION),
        )

    def joined(self, done: Joined, *, bot: str) -> str:
        """What works now, what does not, and what to do about it."""
        works = "".join(
            f'<li class="yes"><b>{_(each.name)}</b><span>{_(each.why)}</span></li>' for each in done.granted
        )
        lacks = "".join(
            f'<li class="no"><b>{_(each.name)}</b><span>{_(each.without.format(bot=bot))}</span></li>'
            for each in done.missing
        )
        troubles = "".join(f'<p class="trouble">{_(each)}</p>' for each in done.troubles)
        others = [(slug, name) for slug, name in done.owned if slug != done.home.slug]
        links = ", ".join(f'<a href="/twitch/auth?community={quote(slug)}">{_(name)}</a>' for slug, name in others)
        return self._page(
            "The bot is in your channel" if done.is_heard else "The bot cannot hear your chat yet",
            "joined",
            name=_(done.name),
            community=_(done.home.community_name),
            ownership="which is new and yours" if done.home.is_new else "where it was before",
            hint=HEARD if done.is_heard else NOT_HEARD,
            troubles=troubles,
            works=works,
            lacks=lacks,
            again='<p><a class="button" href="/twitch/auth">Consent again</a></p>' if done.missing else "",
            others=f"<p>Would you rather have it in {links}?</p>" if others else "",
        )

    def bot_granted(self, done: BotGranted) -> str:
        if not done.missing:
            return self.message("The bot is ready", f"{done.login} may read, write and moderate wherever it is let in.")
        return self.message(
            "The bot may not do everything",
            f"{done.login} has not granted {', '.join(done.missing)}. Without user:bot, user:read:chat and"
            " user:write:chat it hears and says nothing; without the others it cannot moderate.",
            action=("Consent again", "/twitch/auth/bot/login"),
        )

    def bot(self) -> str:
        return self._page("The bot's own account", "bot")

    def leave(self) -> str:
        return self._page("Take the bot out of your channel", "leave")

    def confirm(self, asked: LeaveAsked) -> str:
        return self._page("Really leave?", "confirm", name=_(asked.login), state=_(asked.started.state))

    def left(self, done: Left) -> str:
        troubles = "".join(f'<p class="trouble">{_(each)}</p>' for each in done.troubles)
        return self._page("The bot has left", "left", name=_(done.login), troubles=troubles)

    def message(self, title: str, text: str, *, action: tuple[str, str] | None = None) -> str:
        link = f'<p><a class="button" href="{_(action[1])}">{_(action[0])}</a></p>' if action else ""
        return self._page(title, "message", text=_(text), action=link)

    def _page(self, title: str, template: str, **parts: str) -> str:
        body = self._templates[template].substitute(parts)
        return self._templates["page"].substitute(title=_(title), body=body)


def _scopes(feature: Feature) -> str:
    return "".join(f"<code>{_(scope)}</code> " for scope in feature.scopes).join(("<small>", "</small>"))


def _(text: str) -> str:
    return html.escape(text, quote=True)
