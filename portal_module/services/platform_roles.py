"""What somebody is in channels that the fleet serves, as their platform says when they sign in by it. It holds for
twelve hours, and gives a seat in the portal as a role in the community does (docs/adr/0077).

Sources: https://dev.twitch.tv/docs/api/reference/#get-moderated-channels,
https://discord.com/developers/docs/resources/user#get-current-user-guilds and
https://docs.slack.dev/reference/methods/users.info
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydal import DAL
from pydantic import Field, ValidationError
from waddlebot.base.contracts import Level, Wire, badge_level, discord_badges
from waddlebot.base.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, WaddleBotError
from waddlebot.base.ids import EntityId
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch
from waddlebot.web.http import HTTPClient
from waddlebot.web.twitch_app import TwitchApp

from .fleet_api import FleetAPI, quoted

HOLDS_FOR = timedelta(hours=12)
TOLD_FOR = timedelta(days=7)
# Somebody waits for it to get in, so that is all of it, however many pages it has.
PATIENCE_S = 5.0
# As many as each platform gives at once; of Twitch so many pages, which are 2000 channels that somebody moderates.
TWITCH_AT_ONCE, DISCORD_AT_ONCE, MAX_PAGES = 100, 200, 20
TEAM = "https://slack.com/team_id"
# How an entity is found by what a platform names: a channel at Twitch, a whole server elsewhere.
PLACE = {"twitch": "e.entity_id", "discord": "e.server_id", "slack": "e.server_id"}

SERVED_TEAM = "SELECT FROM entities WHERE platform = 'slack' AND server_id = %s AND is_active LIMIT 1"

Roles = Mapping[str, Level]
Answer = TypeVar("Answer", bound=Wire)


class Channel(Wire):
    broadcaster_id: str


class Pagination(Wire):
    cursor: str = ""


class ModeratedChannels(Wire):
    data: list[Channel]
    pagination: Pagination = Pagination()


class Guild(Wire):
    id: str
    owner: bool = False
    permissions: int = Field(0, ge=0)


class Guilds(Wire):
    guilds: list[Guild]


class SlackUser(Wire):
    badges: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody a platform has just told us of: its own id for them, what else it said, and their token there."""

    platform: str
    user_id: str
    about: Mapping[str, Any]
    token: str


class PlatformRoles:
    def __init__(
        self,
        db: Database,
        http: HTTPClient,
        fleet: FleetAPI,
        log: AAALog,
        *,
        twitch: TwitchApp | None,
        discord_api: str,
    ) -> None:
        self._db = db
        self._http = http
        self._fleet = fleet
        self._log = log
        self._twitch = twitch
        self._discord_api = discord_api.rstrip("/")
        self._ways: dict[str, Callable[[SignedIn, float], Roles]] = {
            "twitch": self._ask_twitch,
            "discord": self._ask_discord,
            "slack": self._ask_slack,
        }

    def ask(self, somebody: SignedIn) -> Roles | None:
        """The level that somebody has at each place of their platform; None when it does not say, which keeps nobody
        from signing in."""
        try:
            return self._ways[somebody.platform](somebody, time.monotonic() + PATIENCE_S)
        except WaddleBotError as err:
            user = f"{somebody.platform}:{somebody.user_id}"
            self._log.auth("platform_roles_unknown", result="FAILED", user=user, error=err.code, why=err.message)
            return None

    def keep(self, db: DAL, login_id: int, platform: str, roles: Roles) -> None:
        """Let a login be that in the communities of those places from now on, and nothing else by that platform."""
        fetch(db, "DELETE FROM portal_platform_roles WHERE auth_user_id = %s AND platform = %s", (login_id, platform))
        held = {place: level for place, level in roles.items() if level >= Level.MODERATOR}
        fetch(
            db,
            "INSERT INTO portal_platform_roles (auth_user_id, platform, community_id, role, expires_at)"
            " SELECT %(login)s, %(platform)s, e.community_id,"
            "  CASE WHEN bool_or(said.is_admin) THEN 'admin' ELSE 'moderator' END, now() + %(holds)s"
            " FROM unnest(%(places)s::text[], %(are_admin)s::boolean[]) AS said (place, is_admin)"
            f" JOIN entities e ON e.platform = %(platform)s AND {PLACE[platform]} = said.place AND e.is_active"
            " JOIN communities c ON c.id = e.community_id AND c.is_active AND NOT c.is_global"
            " GROUP BY e.community_id",
            {
                "login": login_id,
                "platform": platform,
                "holds": HOLDS_FOR,
                "places": list(held),
                "are_admin": [level >= Level.ADMIN for level in held.values()],
            },
        )

    def list_for(self, login_id: int, *, are_over: bool = False) -> list[dict[str, Any]]:
        """The communities that somebody has a seat in by what a platform said, and until when; or had, lately."""
        return self._db.statement(
            "SELECT p.platform, p.role, p.expires_at, c.name, c.slug FROM portal_platform_roles p"
            " JOIN communities c ON c.id = p.community_id"
            " WHERE p.auth_user_id = %s AND (p.expires_at <= now()) = %s AND c.is_active"
            " ORDER BY lower(c.name), p.platform LIMIT 50",
            (login_id, are_over),
        )

    def forget_old(self) -> None:
        """Delete what has not held for so long that nobody is told of it any more."""
        self._db.statement("DELETE FROM portal_platform_roles WHERE expires_at < now() - %s", (TOLD_FOR,))

    def _ask_twitch(self, somebody: SignedIn, until: float) -> Roles:
        assert self._twitch is not None
        headers = {"Authorization": f"Bearer {somebody.token}", "Client-Id": self._twitch.app_id}
        levels = {somebody.user_id: badge_level("twitch", ["broadcaster"])}
        query = {"user_id": somebody.user_id, "first": str(TWITCH_AT_ONCE)}
        for _ in range(MAX_PAGES):
            url = f"{self._twitch.api_base_url}moderation/channels?{urlencode(query)}"
            found = _read(ModeratedChannels, self._get(url, headers, until))
            levels |= {each.broadcaster_id: badge_level("twitch", ["moderator"]) for each in found.data}
            if not found.pagination.cursor:
                break
            query["after"] = found.pagination.cursor
        return {str(EntityId("twitch", "", channel)): level for channel, level in levels.items()}

    def _ask_discord(self, somebody: SignedIn, until: float) -> Roles:
        """All of them at once: Discord lets nobody be in more servers than it lists."""
        headers = {"Authorization": f"Bearer {somebody.token}"}
        url = f"{self._discord_api}/v10/users/@me/guilds?limit={DISCORD_AT_ONCE}"
        found = _read(Guilds, {"guilds": self._get(url, headers, until)}).guilds
        badges = {each.id: discord_badges(each.permissions, is_owner=each.owner) for each in found}
        return {guild: badge_level("discord", list(named)) for guild, named in badges.items()}

    def _ask_slack(self, somebody: SignedIn, until: float) -> Roles:
        """Slack's sign-in says nothing of rights; the collector's bot knows."""
        team = str(somebody.about.get(TEAM) or "")
        if not self._db.statement(SERVED_TEAM, (team,)):
            return {}
        path = f"/slack/api/user/{quoted(team)}/{quoted(somebody.user_id)}"
        answer = self._fleet.ask_as_portal("GET", path, timeout_s=_left_s(until))
        found = _read(SlackUser, answer.get("user"))
        return {team: badge_level("slack", found.badges)}

    def _get(self, url: str, headers: Mapping[str, str], until: float) -> Any:
        response = self._http.request("GET", url, headers=headers, timeout_s=_left_s(until))
        if response.status == 200:
            return response.json()
        raise (UpstreamRefused if response.status < 500 else UpstreamError)(f"HTTP {response.status}")


def _left_s(until: float) -> float:
    """Raises: UpstreamTimeout when nothing is left."""
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise UpstreamTimeout(f"That takes more than {PATIENCE_S:g} s.")
    return left_s


def _read(model: type[Answer], answer: Any) -> Answer:
    """Raises: UpstreamRefused for an answer that has another form."""
    try:
        return model.model_validate(answer)
    except ValidationError as err:
        raise UpstreamRefused("The answer is none that is documented.") from err
