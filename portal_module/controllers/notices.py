"""What the bot tells owners."""

from __future__ import annotations

from typing import Any

from waddlebot.data.database import Database
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import ago
from ..services.commands import title_of
from ..services.notices import Notices
from ..services.seats import Seats
from .parts import asked, check_act, value

PAGE = 30


@page("GET", "/portal/c/<community>/notices", "notices.html")
def list_notices(community: str, login: Login, seats: Seats, database: Database, notices: Notices) -> Any:
    """Everything that the owners of a community were told, newest first."""
    seat = seats.take(login, community, "bot", "editor")
    before = asked("before")
    older_than = int(before) if before.isdecimal() and len(before) < 19 else None
    with database.lookup() as db:
        rows = notices.newest(db, seat.community_id, limit=PAGE + 1, before=older_than)
    more = rows[PAGE - 1]["id"] if len(rows) > PAGE else None
    return seat.shown("Notices", rows=rows[:PAGE], more=more, is_first=not before, ago=ago, title_of=title_of)


@page("POST", "/portal/profile/notices")
def switch_mail(login: Login, session: PageSession, flash: PageFlash, notices: Notices) -> Any:
    """Have what owners are told mailed to oneself, or no longer."""
    check_act(session)
    wanted = bool(value("on"))
    notices.mail_to(login.id, wanted=wanted)
    flash.set("What the bot tells owners comes by mail from now on." if wanted else "No more of these mails.")
    return go_to("/portal/profile")
