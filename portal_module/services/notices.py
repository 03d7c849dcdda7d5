"""What the bot tells the owners of a community and nobody else: read on a page, and mailed to who wants that."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydal import DAL
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch
from waddlebot.web.mail import Mail, MailNotSent

SUBJECT = "WaddleBot has something to tell you about {name}"
LETTER = """{messages}

It is on {url}/portal/c/{slug}/notices, with what was told before.

You get this because your profile asks for it: {url}/portal/profile
"""
MAIL_EVERY_S = 5.0
# At once, so that a mail server that hangs holds up a few.
BATCH = 10
# An older one would only confuse.
USEFUL_DAYS = 2
LISTED = """
SELECT id, module_name, messages, created_at FROM notices
WHERE community_id = %(community)s AND (%(before)s::bigint IS NULL OR id < %(before)s)
    AND (%(days)s::int IS NULL OR created_at > now() - make_interval(days => %(days)s))
ORDER BY id DESC LIMIT %(limit)s
"""
# Owners by a right of their login, and by what they are on the platforms.
TAKE = f"""
WITH due AS (
    SELECT n.id, u.id AS login, u.email, c.name, c.slug, n.messages FROM auth_user u
    JOIN notices n ON n.created_at > greatest(u.notices_mailed_since, now() - interval '{USEFUL_DAYS} days')
    JOIN communities c ON c.id = n.community_id AND c.is_active
    WHERE u.notices_mailed_since IS NOT NULL AND u.email IS NOT NULL AND (
        EXISTS (SELECT 1 FROM portal_access a
            WHERE a.auth_user_id = u.id AND a.community_id = c.id AND a.held = 'owner' AND a.area = '*')
        OR EXISTS (SELECT 1 FROM users me JOIN users o ON coalesce(o.head_id, o.id) = coalesce(me.head_id, me.id)
            WHERE me.id = u.waddlebot_user_id AND (o.id = c.owner_id OR EXISTS (
                SELECT 1 FROM community_rbac r
                WHERE r.community_id = c.id AND r.user_id = o.id AND r.role = 'owner'))))
        AND NOT EXISTS (SELECT 1 FROM portal_notice_mails m WHERE m.notice_id = n.id AND m.auth_user_id = u.id)
    ORDER BY n.id LIMIT {BATCH}
), taken AS (
    INSERT INTO portal_notice_mails (notice_id, auth_user_id) SELECT id, login FROM due ON CONFLICT DO NOTHING
    RETURNING notice_id, auth_user_id
)
SELECT due.* FROM due JOIN taken ON taken.notice_id = due.id AND taken.auth_user_id = due.login ORDER BY due.id
"""
PUT_BACK = "DELETE FROM portal_notice_mails WHERE notice_id = %s AND auth_user_id = %s"
FORGET = "DELETE FROM portal_notice_mails WHERE sent_at < now() - interval '30 days'"


class Notices:
    def __init__(self, database: Database, mail: Mail, log: AAALog, *, url: str) -> None:
        self._database = database
        self._mail = mail
        self._log = log
        self._url = url

    @property
    def can_be_mailed(self) -> bool:
        return self._mail.is_possible

    def newest(
        self, db: DAL, community_id: int, *, limit: int, before: int | None = None, days: int | None = None
    ) -> list[dict[str, Any]]:
        """What owners were told, newest first, before one of them or within so many days."""
        return fetch(db, LISTED, {"community": community_id, "before": before, "days": days, "limit": limit})

    def mailed_since(self, login_id: int) -> datetime | None:
        rows = self._database.statement("SELECT notices_mailed_since FROM auth_user WHERE id = %s", (login_id,))
        return rows[0]["notices_mailed_since"] if rows else None

    def mail_to(self, login_id: int, *, wanted: bool) -> None:
        """What is told from now on goes to somebody by mail, too, or no longer."""
        since = "coalesce(notices_mailed_since, now())" if wanted else "NULL"
        self._database.statement(f"UPDATE auth_user SET notices_mailed_since = {since} WHERE id = %s", (login_id,))

    def send(self) -> bool:
        """Mail what was told since the last time. True when there may be more. Raises: MailNotSent, and what was not
        sent is tried again."""
        if not self._mail.is_possible:
            return False
        taken = self._database.statement(TAKE, ())
        for number, each in enumerate(taken):
            try:
                self._mail.send(each["email"], SUBJECT.format(name=each["name"]), self._letter(each))
            except MailNotSent:
                for left in taken[number:]:
                    self._database.statement(PUT_BACK, (left["id"], left["login"]))
                raise
            self._log.system("notice_mailed", login=each["login"], notice=each["id"])
        return len(taken) == BATCH

    def forget(self) -> None:
        self._database.statement(FORGET, ())

    def _letter(self, notice: dict[str, Any]) -> str:
        return LETTER.format(messages="\n\n".join(notice["messages"]), url=self._url, slug=notice["slug"])
