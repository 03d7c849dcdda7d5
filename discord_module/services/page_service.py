"""The pages on which people add the bot to their server."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from string import Template

from .oauth_service import Added
from .shards import NO_INTENTS, ShardReports

STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
FEATURES = (
    ("It answers commands", "as messages and as slash commands, in every channel that it can see"),
    ("It counts what people do", "messages, reactions, joining, time in voice and boosts earn points"),
    ("It helps to moderate", "by the rules that you set: it deletes a message, warns or times somebody out"),
    ("It gives roles", "for labels, and never one above its own"),
)


class PageService:
    """Renders pages from the folder templates/. Values are escaped here, once."""

    def __init__(self, folder: Path, shards: ShardReports) -> None:
        self._templates = {path.stem: Template(path.read_text("utf-8")) for path in folder.glob("*.html")}
        self._shards = shards
        style = STYLE.search(self._templates["page"].template)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        self.headers = {
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
            " frame-ancestors 'none'",
        }

    def start(self, *, community: str, is_possible: bool) -> str:
        """What the bot will do in a server, and the button that adds it; or who has to do what first."""
        items = "".join(_item("", title, text) for title, text in FEATURES)
        query = f"?community={html.escape(community, quote=True)}" if community else ""
        action = (
            f'<p><a class="button" href="/discord/auth/login{query}">Add WaddleBot to a server</a></p>'
            "<p><small>Discord asks which server. You need the right “Manage Server” there.</small></p>"
            if is_possible
            else '<p class="trouble">Servers cannot be added here yet: the operator has to set'
            " <code>DISCORD_CLIENT_SECRET</code>. Until then they can serve one with <code>waddlebot servers add"
            " --platform discord --server ID</code>.</p>"
        )
        return self._page("Add WaddleBot to your Discord server", f"<ul>{items}</ul>{action}")

    def added(self, added: Added) -> str:
        """What works now, and what is missing for the rest."""
        name, community = html.escape(added.guild_name or added.guild_id), html.escape(added.settled.community_name)
        owner = "which is new and yours" if added.settled.is_new else "which it belongs to"
        body = (
            f"<p>It serves every channel of <b>{name}</b> that it can see, for the community <b>{community}</b>,"
            f" {owner}. Write <code>!help</code> or <code>/help</code> there: it answers.</p>"
            f"<ul>{self._state()}</ul>"
            "<p><small>To take it out again, remove WaddleBot from your server in Discord.</small></p>"
        )
        return self._page(f"WaddleBot is in {added.guild_name or 'your server'}", body)

    def message(self, title: str, text: str) -> str:
        again = '<p><a class="button" href="/discord/auth">Begin again</a></p>'
        return self._page(title, f"<p>{html.escape(text)}</p>{again}")

    def _state(self) -> str:
        """The connection as it is, in a line or two."""
        shards = self._shards.list_shards()
        states = {each["state"] for each in shards}
        hears = "yes" if states == {"connected"} else "no"
        works = _item("yes", "Slash commands", "appear in the server within a minute")
        if states == {"connected"}:
            return works + _item(hears, "Messages, reactions, voice", "are heard")
        detail = next((each["detail"] for each in shards if each["detail"]), "")
        if detail == NO_INTENTS:
            return works + _item(hears, "Messages are not heard yet", detail)
        return works + _item(hears, "The connection to Discord is being made", detail or "this takes a moment")

    def _page(self, title: str, body: str) -> str:
        return self._templates["page"].substitute(title=html.escape(title), body=body)


def _item(kind: str, title: str, text: str) -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<li{mark}><b>{html.escape(title)}</b><span>{html.escape(text)}</span></li>"
