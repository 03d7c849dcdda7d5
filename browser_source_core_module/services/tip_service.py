"""Tips: taken from outside, each once, and told to the router as donations, which alerts and points follow."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Event, EventUser, MessageType
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import NotAllowed, UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.clients import RouterClient

from .admission import hash_token
from .tip_formats import Tip

TOKEN_BYTES = 32
BATCH = 20
# A service that did not hear us posts again, for days at most.
KEPT = timedelta(days=90)
# Whose name no rule lets anybody say.
NAMELESS = "Somebody"


class WrongTipLink(NotAllowed):
    """This address takes no tips. Its owner may have replaced it."""

    code = "wrong_tip_link"


class TipService:
    def __init__(
        self, database: Database, router: RouterClient, keyring: Keyring, log: AAALog, *, base_url: str
    ) -> None:
        self._database = database
        self._router = router
        self._keyring = keyring
        self._log = log
        self._base_url = base_url.rstrip("/")

    def link(self, db: DAL, community_id: int, *, renew: bool, by: str) -> str:
        """The address that tips are posted to, made where there is none. `renew` ends the old one. Audited."""
        row = fetch_one(
            db, "SELECT token FROM browser_source_tip_links WHERE community_id = %s FOR UPDATE", (community_id,)
        )
        if row is not None and not renew:
            token = self._keyring.open(row["token"], purpose=_purpose(community_id))
        else:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            fetch(
                db,
                "INSERT INTO browser_source_tip_links (community_id, token_hash, token, created_by)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT (community_id) DO UPDATE SET token_hash = excluded.token_hash,"
                " token = excluded.token, created_by = excluded.created_by, created_at = now()",
                (community_id, hash_token(token), self._keyring.seal(token, purpose=_purpose(community_id)), by),
            )
        self._log.audit("tip_link_shown", community=community_id, user=by, renewed=renew)
        return f"{self._base_url}/browser/tips/{token}"

    def unlink(self, db: DAL, community_id: int, *, by: str) -> bool:
        """Take no more tips. True when there was an address."""
        gone = fetch_one(
            db, "DELETE FROM browser_source_tip_links WHERE community_id = %s RETURNING id", (community_id,)
        )
        self._log.audit("tip_link_ended", community=community_id, user=by)
        return gone is not None

    def community_of_token(self, db: DAL, token: str) -> int:
        """Raises: WrongTipLink."""
        row = fetch_one(
            db,
            "SELECT l.community_id FROM browser_source_tip_links l JOIN communities c ON c.id = l.community_id"
            " WHERE l.token_hash = %s AND c.is_active",
            (hash_token(token),),
        )
        if row is None:
            raise WrongTipLink()
        return int(row["community_id"])

    def take(self, db: DAL, community_id: int, tip: Tip) -> bool:
        """Keep a tip until the router knows of it. False for one that was here before."""
        row = fetch_one(
            db,
            "INSERT INTO browser_source_tips (community_id, tip_id, event) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING id",
            (community_id, tip.tip_id, json.dumps(_as_told(tip))),
        )
        return row is not None

    def tell(self) -> bool:
        """Tell the router of tips that it does not know of. True when there may be more.

        Raises: UpstreamError while the router is away; everything is tried again then, under the same id.
        """
        waiting = self._database.statement(
            "SELECT t.id, t.tip_id, t.event, e.platform, e.server_id, e.channel_id FROM browser_source_tips t"
            " LEFT JOIN LATERAL (SELECT platform, server_id, channel_id FROM entities"
            "  WHERE community_id = t.community_id AND is_active"
            "  ORDER BY platform = 'twitch' DESC, platform <> 'console' DESC, id LIMIT 1) AS e ON true"
            " WHERE t.state = 'waiting' ORDER BY t.id LIMIT %s",
            (BATCH,),
        )
        for row in waiting:
            self._tell_one(row)
        return len(waiting) == BATCH

    def forget(self) -> bool:
        """Delete tips that nobody posts again. True when there may be more."""
        gone = self._database.statement(
            "DELETE FROM browser_source_tips WHERE id IN (SELECT id FROM browser_source_tips"
            " WHERE created_at < now() - %s AND state <> 'waiting' LIMIT 1000) RETURNING id",
            (KEPT,),
        )
        return len(gone) == 1000

    def _tell_one(self, row: dict[str, Any]) -> None:
        if row["platform"] is None:
            self._end(row["id"], "refused", "The community has no channel.")
            return
        try:
            answer = self._router.report(self._as_event(row))
        except UpstreamRefused as err:
            self._end(row["id"], "refused", err.message)
            return
        self._end(row["id"], "told", str(answer.get("session_id") or ""))

    def _as_event(self, row: dict[str, Any]) -> Event:
        told = row["event"]
        where = {name: row[name] for name in ("platform", "server_id", "channel_id")}
        # Whoever tips calls themselves what they like; what they write with it the router judges itself.
        entity_id = ":".join(where.values())
        name = told["name"] if self._router.may_say(entity_id, told["name"]) else NAMELESS
        return Event(
            event_id=f"tip-{row['id']}",
            message_type=MessageType.DONATION,
            **where,
            user=EventUser(platform_user_id=told["person_id"], name=name.casefold(), display_name=name),
            message=told["message"],
            data={"amount": told["amount"], "currency": told["currency"], "source": row["tip_id"].partition(":")[0]},
        )

    def _end(self, tip: int, state: str, detail: str) -> None:
        """Who it was and what they said is with the event from now on, and not here."""
        self._database.statement(
            "UPDATE browser_source_tips SET state = %s, detail = %s, event = '{}' WHERE id = %s",
            (state, detail[:500], tip),
        )
        self._log.system("tip_told", result="SUCCESS" if state == "told" else "FAILED", tip=tip, detail=detail[:300])


def _as_told(tip: Tip) -> dict[str, Any]:
    return {
        "person_id": tip.person_id,
        "name": tip.name,
        "message": tip.message,
        "amount": tip.amount,
        "currency": tip.currency,
    }


def _purpose(community_id: int) -> str:
    return f"tips:{community_id}"
