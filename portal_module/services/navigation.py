"""The pages of a community, as the sidebar lists them. A new page is a line here; who may not look in its area does
not see it."""

from __future__ import annotations

from dataclasses import dataclass

from waddlebot.base.manifest import Area, Right


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` is below the community's own; a page without an area is for everybody who has any right there. `also` are
    the paths of pages that one comes to from it."""

    label: str
    icon: str
    path: str
    area: Area | None = None
    right: Right = "viewer"
    also: tuple[str, ...] = ()


NAVIGATION: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "",
        (
            Entry("Dashboard", "layout-dashboard", ""),
            Entry("Playground", "flask-conical", "/playground", "bot"),
        ),
    ),
    (
        "People",
        (
            Entry("Members", "users", "/members", "people"),
            Entry("Points", "medal", "/points", "people"),
            Entry("Labels", "tag", "/labels", "people", also=("/groups",)),
            Entry("Inventory", "package", "/inventory", "bot"),
        ),
    ),
    (
        "Bot",
        (
            Entry("Commands", "terminal", "/commands", "bot"),
            Entry("Timers", "clock", "/timers", "bot"),
            Entry("Rules", "regex", "/rules", "rules"),
            Entry("Filters", "shield", "/filters", "rules"),
            Entry("Moderation", "megaphone", "/moderation", "rules"),
            Entry("Modules", "blocks", "/modules", "bot"),
            Entry("Marketplace", "store", "/marketplace", "bot"),
            Entry("Overlays", "monitor-play", "/overlays", "overlays"),
            Entry("Music", "music", "/music", "music"),
            Entry("AI", "zap", "/ai", "bot"),
            Entry("Shoutouts", "star", "/shoutouts", "bot"),
            Entry("Channels", "radio", "/channels", "channels"),
        ),
    ),
    (
        "Keep in order",
        (
            Entry("Notices", "megaphone", "/notices", "bot", "editor"),
            Entry("Audit log", "scroll-text", "/audit", "settings"),
            Entry("Rights", "shield", "/rights", "settings", "owner"),
            Entry("API keys", "key-round", "/keys", "settings", "owner"),
            Entry("Take it with you", "download", "/data", "settings", "owner"),
            Entry("Settings", "settings", "/modules/router", "bot", "editor"),
        ),
    ),
)
# What a phone shows at its lower edge.
TABS: tuple[tuple[str, str], ...] = (("Home", ""), ("Members", "/members"), ("Rules", "/rules"), ("Try", "/playground"))
