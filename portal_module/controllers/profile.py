"""One's own login: name, password, the code beside it, and where one is signed in."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from py4web import Field
from pydal.validators import IS_LENGTH, IS_NOT_EMPTY
from waddlebot.base.errors import UserError
from waddlebot.data.database import Database
from waddlebot.web.forms import PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import Site, go_to, page

from ..services.carrying import Carrying, Gathered, about_person
from ..services.channels import ago
from ..services.platform_logins import PlatformLogins
from ..services.second_steps import SecondSteps, address_for, new_secret
from .parts import Buttons, as_download, check_act, value

PENDING = "new_totp"


@page("GET POST", "/portal/profile", "profile.html")
def show_profile(
    login: Login, session: PageSession, flash: PageFlash, database: Database, site: Site, platforms: PlatformLogins
) -> Any:
    """One's name, the accounts that one signs in with, and where one is signed in."""
    name = Field(
        "name",
        label="Name",
        default=login.more["first_name"],
        requires=[IS_NOT_EMPTY("Say how you are called."), IS_LENGTH(80, error_message="80 characters at most.")],
        comment="As others see it in the audit log.",
    )
    form = PageForm([name], session, form_name="profile", submit_value="Save name")
    if form.accepted:
        database.statement("UPDATE auth_user SET first_name = %s WHERE id = %s", (form.vars["name"], login.id))
        flash.set("Name saved.")
        return go_to("/portal/profile")
    sessions = [
        {
            "handle": _handle(each),
            "is_this": each == session.id,
            "agent": _browser(about.get("agent", "")),
            "address": about.get("address", ""),
            "seen": ago(datetime.fromtimestamp(about.get("seen", 0), UTC)),
        }
        for each, about in site.session.store.list_for(login.id).items()
    ]
    sessions.sort(key=lambda each: not each["is_this"])
    own_id = login.more["waddlebot_user_id"]
    accounts = platforms.accounts_of(own_id) if own_id else []
    return {
        "title": "Profile",
        "form": form,
        "sessions": sessions,
        "button": Buttons(session),
        "me": login,
        "accounts": accounts,
        "ways": [] if accounts else platforms.ways_to_connect,
    }


@page("GET", "/portal/profile/data")
def export_own_data(login: Login, platforms: PlatformLogins, carrying: Carrying) -> Any:
    """Everything that is known of oneself, as a file: one's login, and what modules have of one's accounts."""
    own_id = login.more["waddlebot_user_id"]
    accounts = platforms.accounts_of(own_id) if own_id else []
    identities = [f"{each['platform']}:{each['platform_user_id']}" for each in accounts]
    found = carrying.look_up_everywhere(identities) if identities else Gathered()
    own = {"email": login.email, "name": login.more["first_name"]}
    return as_download("me.waddlebot.json", {**about_person(identities, found), "login": own})


@page("POST", "/portal/profile/sessions/end")
def end_session(login: Login, session: PageSession, flash: PageFlash, site: Site) -> Any:
    """Sign out elsewhere: one session, or all but this one."""
    check_act(session)
    wanted, store = value("handle"), site.session.store
    ended = [
        each for each in store.list_for(login.id) if each != session.id and (not wanted or _handle(each) == wanted)
    ]
    for each in ended:
        store.delete(each)
    flash.set(f"Signed out in {len(ended)} other place{'' if len(ended) == 1 else 's'}.")
    return go_to("/portal/profile")


@page("GET POST", "/portal/profile/code", "code.html")
def switch_code_on(login: Login, session: PageSession, flash: PageFlash, steps: SecondSteps) -> Any:
    """Ask for a code from an app beside the password."""
    secret = session.get(PENDING) or new_secret()
    session[PENDING] = secret
    code = Field("code", label="The code that it shows", requires=IS_NOT_EMPTY("Type the code in."))
    form = PageForm([code], session, form_name="code", submit_value="Ask for codes")
    if form.accepted:
        if steps.switch_on(login, secret, form.vars["code"]):
            del session[PENDING]
            flash.set("From now on you are asked for a code, too.")
            return go_to("/portal/profile")
        form.refuse(code="That is not its code. Take the newest one.")
    return {
        "title": "A code beside your password",
        "form": form,
        "secret": secret,
        "address": address_for(login, secret),
    }


@page("GET POST", "/portal/profile/code/off", "form_alone.html")
def switch_code_off(login: Login, session: PageSession, flash: PageFlash, site: Site, steps: SecondSteps) -> Any:
    """Ask for no codes any more, of whoever knows the password."""
    field = Field("password", "password", label="Password", requires=IS_NOT_EMPTY("Type it in."))
    form = PageForm([field], session, form_name="code_off", submit_value="Ask for no codes")
    if form.accepted:
        try:
            site.signin.check_password(login.email, form.vars["password"])
        except UserError as err:
            form.refuse(password=err.message)
        else:
            steps.switch_off(login)
            flash.set("Your password alone is enough again.")
            return go_to("/portal/profile")
    return {"title": "Ask for no codes", "form": form}


def _handle(session_id: str) -> str:
    """What names a session on a page without opening it."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:16]


def _browser(agent: str) -> str:
    """A browser and a system, out of how it calls itself."""
    names = ("Edg", "OPR", "Firefox", "Chrome", "Safari")
    systems = ("Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux")
    browser = next((each for each in names if each in agent), "A browser")
    system = next((each for each in systems if each in agent), "")
    return {"Edg": "Edge", "OPR": "Opera"}.get(browser, browser) + (f" on {system}" if system else "")
