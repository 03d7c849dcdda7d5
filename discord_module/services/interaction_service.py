"""Slash commands that were used: told to Discord as taken within moments, answered whenever the answer is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from waddlebot.base.encryption import Keyring
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import parse_json, validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Delivery, Holding
from waddlebot.data.database import Database

from ..dataclasses import CommandUsed, Person, Sighting
from . import interactions
from .interactions import DEFERRED, EPHEMERAL, MESSAGE, PING, PONG, Interaction
from .slash_commands import as_text

# Discord's own limit; a little less, so that an answer that is on its way still arrives.
ANSWERABLE_FOR = timedelta(minutes=14, seconds=30)
KEPT_FOR = timedelta(hours=1)
# The router answers within a second; what has said nothing after this most likely has nothing to say.
SILENT_AFTER = timedelta(seconds=4)
NOT_SERVED = "WaddleBot is not switched on in this channel. An admin of the server can add it at {url}."
NOT_HERE = "WaddleBot's commands work in servers only."

REMEMBER = """
WITH guild AS (SELECT owner_id, commands FROM discord_guilds WHERE guild_id = %(guild)s),
kept AS (
    INSERT INTO discord_interactions (interaction_id, guild_id, channel_id, user_id, command, token_sealed)
    VALUES (%(id)s, %(guild)s, %(channel)s, %(user)s, %(command)s, %(token)s) ON CONFLICT DO NOTHING
)
SELECT (SELECT owner_id FROM guild) AS owner_id, coalesce((SELECT commands FROM guild), '{}') AS names
"""
# Commands that are done and said nothing in chat, with how they ended.
SILENT = """
SELECT i.interaction_id, i.token_sealed, (
    SELECT array_agg(x.status ORDER BY x.status) FROM command_executions x WHERE x.session_id = e.session_id
) AS statuses, e.state
FROM discord_interactions i JOIN discord_events e ON e.event_id = i.interaction_id
WHERE e.state IN ('forwarded', 'failed') AND i.first_reply IS NULL
    AND i.created_at < now() - %(silent)s AND i.created_at > now() - %(answerable)s
    AND NOT EXISTS (SELECT 1 FROM router_work w WHERE w.session_id = e.session_id)
    AND NOT EXISTS (SELECT 1 FROM command_executions x WHERE x.session_id = e.session_id AND x.status = 'pending')
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.platform = 'discord' AND o.event_id = i.interaction_id
        AND o.response_action IN ('chat', 'private') AND o.state IN ('pending', 'sending'))
ORDER BY i.created_at LIMIT 50
"""
WORDS = {
    "denied": "You may not use this command here.",
    "rate_limited": "That was too often. Wait a moment and try again.",
    "failed": "That did not work. Try again in a moment.",
    "timeout": "That took too long. Try again in a moment.",
    "unknown": "Nobody knows whether that worked. Look before you try again.",
}
DONE = "Done."
NO_SUCH_COMMAND = "This command does not exist here any more."


class InteractionService:
    """Takes interactions from the gateway and over HTTP; whichever comes second finds the first one's."""

    def __init__(
        self,
        collector: Collector,
        *,
        db: Database,
        keyring: Keyring,
        public_key: str,
        add_url: str,
        log: AAALog,
    ) -> None:
        self._collector = collector
        self._db = db
        self._keyring = keyring
        self._public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        self._add_url = add_url
        self._log = log

    def receive(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Take what Discord posted, and answer what it wants to hear at once.

        Raises: BadSignature; BadRequest and Invalid for a signed body that is not as documented.
        """
        try:
            interactions.check_signature(self._public_key, headers, body)
        except interactions.NotSigned:
            self._collector.count("INTERACTION_CREATE", "bad_signature")
            raise
        interaction: Interaction = validate(Interaction.model_validate, parse_json(body))
        if interaction.type == PING:
            return {"type": PONG}
        if interaction.type == interactions.AUTOCOMPLETE:
            return {"type": interactions.CHOICES, "data": {"choices": []}}
        refusal = self.refusal(interaction)
        if refusal:
            return {
                "type": MESSAGE,
                "data": {"content": refusal, "flags": EPHEMERAL, "allowed_mentions": {"parse": []}},
            }
        self.take(interaction)
        return {"type": DEFERRED}

    def refusal(self, interaction: Interaction) -> str:
        """Why an interaction is not taken, in words for whoever used it; empty when it is."""
        used = interactions.read_command(interaction)
        if used is None:
            return NOT_HERE
        if not self._collector.served.serves(used.channel_id, used.guild_id):
            return NOT_SERVED.format(url=self._add_url)
        return ""

    def take(self, interaction: Interaction, *, holding: Holding | None = None) -> None:
        """Keep a command for good and have it run. Raises: DatabaseUnavailable."""
        used = interactions.read_command(interaction)
        assert used is not None, "it was not refused"
        known = self._remember(used)
        person = used.person
        if person.id == known["owner_id"]:
            person = replace(person, badges=("owner", *person.badges))
        sighting = _sighting(used, person, as_text(used, known["names"]))
        self._collector.take(
            Delivery(
                delivery_id=used.interaction_id,
                event_id=used.interaction_id,
                type=sighting.dispatch,
                channel_id=used.channel_id,
                person_id=used.person.id,
                data=sighting.as_data(),
                occurred_at=datetime.now(UTC),
                holding=holding,
            )
        )

    def open_token(self, row: Mapping[str, Any]) -> str:
        """Raises: CannotOpen."""
        return self._keyring.open(row["token_sealed"], purpose=_purpose(row["interaction_id"]))

    def find(self, interaction_id: str) -> dict[str, Any] | None:
        """The interaction that an event is, with whether Discord still takes answers to it."""
        rows = self._db.statement(
            "SELECT interaction_id, token_sealed, first_reply, created_at > now() - %s AS is_answerable"
            " FROM discord_interactions WHERE interaction_id = %s",
            (ANSWERABLE_FOR, interaction_id),
        )
        return rows[0] if rows else None

    def is_first(self, interaction_id: str, reply_id: int) -> bool:
        """Whether this reply takes the place of "is thinking…"; the same one still does when it is tried again."""
        rows = self._db.statement(
            "UPDATE discord_interactions SET first_reply = coalesce(first_reply, %s) WHERE interaction_id = %s"
            " RETURNING first_reply",
            (reply_id, interaction_id),
        )
        return bool(rows) and rows[0]["first_reply"] == reply_id

    def list_silent(self) -> list[tuple[dict[str, Any], str]]:
        """Commands that will say nothing, with the words that are to stand there instead."""
        rows = self._db.statement(SILENT, {"silent": SILENT_AFTER, "answerable": ANSWERABLE_FOR})
        return [(row, _words_for(row)) for row in rows]

    def forget_old(self) -> bool:
        gone = self._db.statement(
            "DELETE FROM discord_interactions WHERE interaction_id IN (SELECT interaction_id FROM discord_interactions"
            " WHERE created_at < now() - %s LIMIT 1000) RETURNING 1 AS gone",
            (KEPT_FOR,),
        )
        return len(gone) == 1000

    def _remember(self, used: CommandUsed) -> dict[str, Any]:
        sealed = self._keyring.seal(used.token, purpose=_purpose(used.interaction_id))
        (row,) = self._db.statement(
            REMEMBER,
            {
                "id": used.interaction_id,
                "guild": used.guild_id,
                "channel": used.channel_id,
                "user": used.person.id,
                "command": used.name[:64],
                "token": sealed,
            },
        )
        return row


def _purpose(interaction_id: str) -> str:
    return f"discord-interaction:{interaction_id}"


def _sighting(used: CommandUsed, person: Person, text: str) -> Sighting:
    details = {"interaction_id": used.interaction_id, "slash": used.name}
    return Sighting(
        "chatMessage",
        "INTERACTION_CREATE",
        used.guild_id,
        used.channel_id,
        person,
        used.interaction_id,
        text=text,
        details=details,
    )


def _words_for(row: Mapping[str, Any]) -> str:
    if row["state"] == "failed":
        return WORDS["failed"]
    statuses = row["statuses"] or []
    if not statuses:
        return NO_SUCH_COMMAND
    return next((WORDS[status] for status in statuses if status in WORDS), DONE)
