"""The pages on which people add the bot to their server."""

from __future__ import annotations

from urllib.parse import quote

from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import Pages, escape

from ..services.oauth_service import Added, module_scopes
from ..services.shards import NO_INTENTS, ShardReports

BLURPLE = ("#4752c4", "#8b95ff")
FEATURES = (
    ("It answers commands", "as messages and as slash commands, in every channel that it can see"),
    ("It counts what people do", "messages, reactions, joining, time in voice and boosts earn points"),
    ("It helps to moderate", "by the rules that you set: it deletes a message, warns or times somebody out"),
    ("It gives roles", "for labels, and never one above its own"),
)


class ConsentPages(Pages):
    """What is said on each page. Values are escaped here, once."""

    def __init__(self, shards: ShardReports) -> None:
        super().__init__(accent=BLURPLE)
        self._shards = shards

    def start(self, *, community: str, is_possible: bool) -> Raw:
        """What the bot will do in a server, and the button that adds it; or who has to do what first."""
        more = tuple((each.module, f"{each.why} ({each.scope})") for each in module_scopes())
        items = "".join(_item("", title, text) for title, text in FEATURES + more)
        query = f"?community={quote(community)}" if community else ""
        action = (
            f'<p><a class="button" href="/discord/auth/login{query}">Add WaddleBot to a server</a></p>'
            "<p><small>Discord asks which server. You need the right “Manage Server” there.</small></p>"
            if is_possible
            else '<p class="trouble">Servers cannot be added here yet: the operator has to set'
            " <code>DISCORD_CLIENT_SECRET</code>. Until then they can serve one with <code>waddlebot servers add"
            " --platform discord --server ID</code>.</p>"
        )
        return self.page("Add WaddleBot to your Discord server", f"<ul>{items}</ul>{action}")

    def added(self, added: Added) -> Raw:
        """What works now, and what is missing for the rest."""
        name, community = escape(added.guild_name or added.guild_id), escape(added.settled.community_name)
        owner = "which is new and yours" if added.settled.is_new else "which it belongs to"
        body = (
            f"<p>It serves every channel of <b>{name}</b> that it can see, for the community <b>{community}</b>,"
            f" {owner}. Write <code>!help</code> or <code>/help</code> there: it answers.</p>"
            f"<ul>{self._state()}</ul>"
            "<p><small>To take it out again, remove WaddleBot from your server in Discord.</small></p>"
        )
        return self.page(f"WaddleBot is in {added.guild_name or 'your server'}", body)

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


def _item(kind: str, title: str, text: str) -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<li{mark}><b>{escape(title)}</b><span>{escape(text)}</span></li>"
