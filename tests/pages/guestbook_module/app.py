"""A small module with pages, as one would be written: what the tests of the pages' library look at."""

from __future__ import annotations

from typing import Any

from py4web import Field
from pydal import DAL
from pydal.validators import IS_NOT_EMPTY
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.data.database import Database, fetch
from waddlebot.module.service import Service
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, endpoint
from waddlebot.web.forms import ListGrid, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.signin_pages import signin_pages
from waddlebot.web.site import Link, Shell, SiteSettings, go_to, page


class GuestbookSettings(SiteSettings):
    prefix = "GUESTBOOK"


def define_tables(db: DAL) -> None:
    db.define_table(
        "guestbook_entries",
        Field("community_id", "integer"),
        Field("name", requires=IS_NOT_EMPTY("Say who you are."), comment="As others will read it."),
        Field("text", "text", label="What you say"),
        Field("is_loud", "boolean", label="Say it loudly", default=False),
        Field("written_at", "datetime", writable=False),
    )


def shell(login: Login) -> Shell:
    book, write = Link("Guest book", "users", "/guestbook", 3), Link("Write", "pencil", "/guestbook/write")
    keys = Link("Password", "key-round", "/guestbook/auth/change-password")
    return Shell("Penguin HQ", "3 platforms", (("", (book, write)), ("You", (keys,))), (book, write), "/guestbook/me")


settings = GuestbookSettings.load()
service = Service(__file__, settings, tables=define_tables)
site = service.site(
    settings,
    shell=shell,
    two_factor_required=lambda login: login.email.startswith("careful"),
    two_factor_validate=lambda _login, code: code == "246810",
)


@page("GET", "/guestbook", "book.html")
def show_book(database: Database) -> Any:
    """One community's entries."""
    with database.reading() as db:
        table = db.guestbook_entries
        columns = [table.name, table.text, table.written_at]
        grid = ListGrid(table.community_id == 1, columns, orderby=table.id, rows_per_page=2, keeps=["q"])
        return {"grid": grid.render()}


@page("GET POST", "/guestbook/write", "write.html")
def write(db: DAL, session: PageSession, flash: PageFlash) -> Any:
    """Write something."""
    form = PageForm(db.guestbook_entries, session, form_name="entry")
    if form.accepted:
        if form.vars["name"] == "Conflict":
            raise Conflict("Somebody of that name was here.")
        fetch(db, "INSERT INTO guestbook_entries (community_id, name) VALUES (1, %s)", (form.vars["name"],))
        flash.set(f'Thank you, {form.vars["name"]}: "written" & <kept>.')
        return go_to("/guestbook/write")
    return {"form": form}


@page("GET", "/guestbook/public", "public.html", caller=ANYBODY)
def show_public() -> Any:
    """Something that everybody may see."""
    return {"title": "Everybody may read this"}


@page("GET", "/guestbook/entries/<entry:int>", "public.html", caller=ANYBODY)
def show_entry(entry: int) -> Any:
    """Nothing, ever."""
    raise NotFound(f"There is no entry {entry}.")


@page("GET", "/guestbook/broken", "public.html", caller=ANYBODY)
def break_down() -> Any:
    """Fail."""
    raise RuntimeError("the secret of the traceback")


@endpoint("GET", "/guestbook/api/cookies", caller=ANYBODY)
def two_cookies() -> Raw:
    """Answer with two cookies."""
    return Raw("two", cookies=["one=1; Path=/", "two=2; Path=/; HttpOnly"])


handlers = [show_book, write, show_public, show_entry, break_down, two_cookies]
service.mount_static(site.look.statics)
service.mount(*handlers, *signin_pages(site), using=[site, service.database])
