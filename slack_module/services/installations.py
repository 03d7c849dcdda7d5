"""The workspaces that have the app, and the tokens with which it may speak there."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydal import DAL
from pydantic import SecretStr
from waddlebot.base.bridge import Bridge
from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import EntityId
from waddlebot.base.logs import AAALog
from waddlebot.community import consent
from waddlebot.community.communities import slug_of
from waddlebot.community.consent import Consenter, Settled
from waddlebot.community.directory import add_server
from waddlebot.community.tokens import Grant, NeedsReauth, NoToken, Refresh, Token, Tokens
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one

SLACK = "slack"
ASK_WITHIN_S = 10.0
# A token that does not end is read from the database again after this; a refused one at once.
REMEMBERED_S = 30.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """What Slack says of a workspace when the app is let in."""

    team_id: str
    name: str
    app_id: str = ""
    enterprise_id: str = ""
    bot_user_id: str = ""


@dataclass(frozen=True, slots=True)
class _Held:
    """A token at hand. `kept` is None for the one of SLACK_BOT_TOKEN."""

    access: str
    kept: Token | None
    until: float


def team_entity(team_id: str) -> str:
    return str(EntityId(SLACK, team_id, ""))


def admin_of(team_id: str) -> str:
    """Whose token it is that an admin granted for deleting messages."""
    return f"{team_id}/admin"


class Installations:
    def __init__(
        self,
        db: Database,
        bus: Bus,
        tokens: Tokens,
        bridge: Bridge,
        *,
        bot_token: SecretStr | None,
        refresh: Refresh,
        ask_who: Any,
        log: AAALog,
    ) -> None:
        """`refresh` renews a token that ends; `ask_who` asks Slack on the bridge's loop whose SLACK_BOT_TOKEN is."""
        self._db = db
        self._bus = bus
        self._tokens = tokens
        self._bridge = bridge
        self._bot_token = bot_token
        self._refresh = refresh
        self._ask_who = ask_who
        self._log = log
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._own: Workspace | None = None
        self._own_is_noted = False
        # Why SLACK_BOT_TOKEN is of no use.
        self._own_trouble = ""

    # Tokens

    def token(self, team_id: str, *, refused: str = "") -> str:
        """The bot's token in a workspace; with `refused`, another one than that. Call it without a transaction.

        Raises: NoToken and NeedsReauth, in words; UpstreamError and Busy when it cannot be had now.
        """
        held = self._held.get(team_id)
        if held is not None and held.until > time.monotonic() and held.access != refused:
            return held.access
        with self._lock:
            self._held.pop(team_id, None)
        fresh = self._find(team_id, refused, held)
        with self._lock:
            self._held[team_id] = fresh
        return fresh.access

    def admin_token(self, team_id: str) -> str | None:
        """The token of an admin who lets the bot delete messages. Raises: UpstreamError."""
        try:
            return self._tokens.fresh(admin_of(team_id), self._refresh).access
        except (NoToken, NeedsReauth):
            return None

    def _find(self, team_id: str, refused: str, held: _Held | None) -> _Held:
        until = time.monotonic() + REMEMBERED_S
        old = held.kept if held is not None and held.access == refused else None
        try:
            token = self._tokens.fresh(team_id, self._refresh, refused=old)
            return _Held(token.access, token, until)
        except NoToken:
            if self._bot_token is None or self.own_workspace().team_id != team_id:
                raise NoToken(f"Workspace {team_id} does not have the app; install it at /slack/install.") from None
        access = self._bot_token.get_secret_value()
        if access == refused:
            raise NeedsReauth("Slack refuses SLACK_BOT_TOKEN; set the one of the app's page “OAuth & Permissions”.")
        return _Held(access, None, until)

    def own_workspace(self) -> Workspace:
        """The workspace of SLACK_BOT_TOKEN. Raises: UpstreamError; NeedsReauth."""
        if self._own is None:
            self._own = self._bridge.submit(self._ask_who(self._bot_token)).result(ASK_WITHIN_S)
        return self._own

    def notice_own_workspace(self) -> None:
        """Note the workspace of SLACK_BOT_TOKEN, and serve all of it unless somebody has decided about it before.

        Raises: UpstreamError.
        """
        if self._bot_token is None or self._own_is_noted:
            return
        try:
            own = self.own_workspace()
        except NeedsReauth as err:
            if not self._own_trouble:
                self._log.auth("bot_token_refused", result="FAILED", reason=err.message)
            self._own_trouble = err.message
            return
        with self._db.transaction() as db:
            is_back = _note(db, own, source="setting", installed_by="")
            is_news = _serve_own(db, own, is_back=is_back)
        if is_news:
            consent.tell(self._bus, EntityId(SLACK, own.team_id, ""))
            self._log.audit("workspace_served", team=own.team_id, source="SLACK_BOT_TOKEN")
        self._own_is_noted, self._own_trouble = True, ""

    # Coming and going

    def install(
        self, workspace: Workspace, grant: Grant, person: Consenter, *, admin: Grant | None, community: str | None
    ) -> Settled:
        """Keep what somebody granted and serve their workspace. Again repairs whatever was broken.

        Raises: NotYourCommunity; NotConfigured without a key to seal tokens with.
        """
        with self._db.transaction() as db:
            self._tokens.keep(db, workspace.team_id, grant)
            if admin is not None:
                self._tokens.keep(db, admin_of(workspace.team_id), admin)
            _note(db, workspace, source="oauth", installed_by=person.platform_user_id)
            settled = consent.settle(
                db, person, channel="", server_id=workspace.team_id, name=workspace.name, community=community
            )
        self._forget(workspace.team_id)
        consent.tell(self._bus, settled.entity, settled.user_id)
        self._log.audit("workspace_installed", team=workspace.team_id, user=person.platform_user_id, result="SUCCESS")
        return settled

    def uninstall(self, team_id: str, *, at: datetime) -> bool:
        """The app was taken out of a workspace: forget its tokens and serve it no more. Its community stays.

        False when that is known, or was before the app came back: Slack may say it minutes later.
        """
        with self._db.transaction() as db:
            if not _note_gone(db, team_id, "the app was removed from the workspace", at):
                return False
            self._tokens.forget(db, team_id)
            self._tokens.forget(db, admin_of(team_id))
            consent.leave(db, EntityId(SLACK, team_id, ""))
        self._forget(team_id)
        consent.tell(self._bus, EntityId(SLACK, team_id, ""))
        self._log.audit("workspace_uninstalled", team=team_id, result="SUCCESS")
        return True

    def revoke(self, team_id: str, reason: str, *, at: datetime | None = None) -> bool:
        """A workspace's token is worth nothing any more, and somebody has to let the app in again. Told once."""
        with self._db.transaction() as db:
            is_news = _note_gone(db, team_id, reason, at)
        self._tokens.refuse(team_id, reason)
        self._forget(team_id)
        if is_news:
            self._log.auth("workspace_lost", result="FAILED", team=team_id, reason=reason)
        return is_news

    def revoke_admin(self, team_id: str) -> None:
        with self._db.transaction() as db:
            self._tokens.forget(db, admin_of(team_id))

    # Saying how it is

    def find_team(self, team_id: str) -> dict[str, Any] | None:
        with self._db.transaction() as db:
            return fetch_one(db, "SELECT * FROM slack_teams WHERE team_id = %s", (team_id,))

    def list_teams(self, community_id: int | None, *, limit: int) -> list[dict[str, Any]]:
        """The workspaces, with who let the app in and what is wrong; of one community if it is named."""
        with self._db.transaction() as db:
            return fetch(
                db,
                "SELECT t.team_id, t.name, t.source, t.state, t.reason, t.installed_by, t.installed_at,"
                " coalesce(k.state, '') = 'needs_reauth' AS needs_reauth, k.expires_at, s.is_active AS is_served,"
                " EXISTS (SELECT FROM slack_tokens a WHERE a.owner_id = t.team_id || '/admin' AND a.state = 'ok')"
                "  AS may_delete"
                " FROM slack_teams t LEFT JOIN slack_tokens k ON k.owner_id = t.team_id"
                " LEFT JOIN servers s ON (s.platform, s.server_id, s.channel) = ('slack', t.team_id, '')"
                " WHERE %(community)s::bigint IS NULL OR EXISTS (SELECT FROM servers o"
                "  WHERE o.platform = 'slack' AND o.server_id = t.team_id AND o.community_id = %(community)s)"
                " ORDER BY t.state DESC, t.name LIMIT %(limit)s",
                {"community": community_id, "limit": limit},
            )

    def check(self) -> str:
        """Say how many workspaces have the app. Raises: UpstreamError, with those whose token is refused."""
        rows = self._db.statement(
            "SELECT count(*) FILTER (WHERE t.state = 'installed') AS installed,"
            " (array_agg(t.name ORDER BY t.updated_at DESC) FILTER (WHERE k.state = 'needs_reauth'))[1:3] AS lost"
            " FROM slack_teams t LEFT JOIN slack_tokens k ON k.owner_id = t.team_id"
        )
        if rows[0]["lost"]:
            raise UpstreamError("some are to be installed again at /slack/install", names=", ".join(rows[0]["lost"]))
        return f"{rows[0]['installed']} workspaces"

    def _forget(self, team_id: str) -> None:
        with self._lock:
            self._held.pop(team_id, None)


def _note(db: DAL, workspace: Workspace, *, source: str, installed_by: str) -> bool:
    """Whether the app had been taken out of it before."""
    row = fetch_one(
        db,
        "WITH before AS (SELECT state FROM slack_teams WHERE team_id = %(team)s FOR UPDATE), noted AS ("
        " INSERT INTO slack_teams AS t (team_id, name, enterprise_id, app_id, bot_user_id, source, installed_by)"
        " VALUES (%(team)s, %(name)s, %(enterprise)s, %(app)s, %(bot)s, %(source)s, %(by)s)"
        " ON CONFLICT (team_id) DO UPDATE SET name = excluded.name,"
        " enterprise_id = excluded.enterprise_id, app_id = excluded.app_id, bot_user_id = excluded.bot_user_id,"
        " source = CASE WHEN t.state = 'installed' AND t.source = 'oauth' THEN t.source ELSE excluded.source END,"
        " installed_by = coalesce(nullif(excluded.installed_by, ''), t.installed_by),"
        " installed_at = CASE WHEN excluded.source = 'oauth' OR t.state = 'gone' THEN now() ELSE t.installed_at END,"
        " state = 'installed', reason = '', updated_at = now())"
        " SELECT state = 'gone' AS was_gone FROM before",
        {
            "team": workspace.team_id,
            "name": workspace.name,
            "enterprise": workspace.enterprise_id,
            "app": workspace.app_id,
            "bot": workspace.bot_user_id,
            "source": source,
            "by": installed_by,
        },
    )
    return bool(row and row["was_gone"])


def _serve_own(db: DAL, own: Workspace, *, is_back: bool) -> bool:
    """Serve the whole workspace if nobody has decided about it, or if it was served until the app was taken out."""
    where = (SLACK, own.team_id)
    decided = fetch_one(db, "SELECT 1 FROM servers WHERE platform = %s AND server_id = %s LIMIT 1", where)
    if decided is None:
        # A name in which there is nothing latin would make every such workspace one community.
        community = own.name if slug_of(own.name) != slug_of("") else own.team_id
        add_server(db, SLACK, "", server_id=own.team_id, name=own.name, community=community)
        return True
    if is_back:
        fetch(
            db,
            "UPDATE servers SET is_active = true, updated_at = now()"
            " WHERE platform = %s AND server_id = %s AND channel = ''",
            where,
        )
        fetch(db, "UPDATE entities SET is_active = true WHERE platform = %s AND server_id = %s", where)
    return is_back


def _note_gone(db: DAL, team_id: str, reason: str, at: datetime | None) -> bool:
    # Slack tells of an uninstallation twice, the revoked tokens before or after it; each of the two does its own part.
    # An event's time has whole seconds, so one of the very second of the installation is taken for a later one.
    row = fetch_one(
        db,
        "UPDATE slack_teams SET state = 'gone', reason = %(reason)s, updated_at = now() WHERE team_id = %(team)s"
        " AND (state = 'installed' OR reason <> %(reason)s)"
        " AND (%(at)s::timestamptz IS NULL OR installed_at < %(at)s::timestamptz + interval '1 second')"
        " RETURNING team_id",
        {"team": team_id, "reason": reason, "at": at},
    )
    return row is not None
