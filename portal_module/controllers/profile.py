"""One's own login: name, password, the code beside it, and where one is signed in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydal.validators import IS_LENGTH, IS_MATCH, IS_NOT_EMPTY
from waddlebot.base.chat import count_of
from waddlebot.base.errors import UserError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database
from waddlebot.web.endpoint import Raw
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.pages import HTML
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import Site, go_to, page

from ..services.carrying import Carrying, Gathered, about_person, record_erasure
from ..services.channels import ago
from ..services.commands import title_of
from ..services.notices import Notices
from ..services.platform_logins import PlatformLogins
from ..services.platform_roles import PlatformRoles
from ..services.second_steps import SecondSteps, address_for, new_secret
from .parts import Buttons, acting_for, as_download, check_act, value

PENDING = "new_totp"
ERASING = "erase_request"
SURE = "erase everything"


@page("GET POST", "/portal/profile", "profile.html")
def show_profile(
    login: Login,
    session: PageSession,
    flash: PageFlash,
    database: Database,
    site: Site,
    platforms: PlatformLogins,
    roles: PlatformRoles,
    notices: Notices,
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
        "roles": [{**each, "lasts": _lasts(each["expires_at"])} for each in roles.list_for(login.id)],
        "is_mailed": notices.mailed_since(login.id) is not None,
        "can_be_mailed": notices.can_be_mailed and bool(login.email),
        "ways": [] if accounts else platforms.ways_to_connect,
    }


@page("GET", "/portal/profile/data")
def export_own_data(login: Login, platforms: PlatformLogins, carrying: Carrying) -> Any:
    """Everything that is known of oneself, as a file: one's login, and what modules have of one's accounts."""
    identities = _identities(login, platforms)
    found = carrying.look_up_everywhere(identities) if identities else Gathered()
    own = {"email": login.email, "name": login.more["first_name"]}
    return as_download("me.waddlebot.json", {**about_person(identities, found), "login": own})


@page("GET POST", "/portal/profile/erase", "profile_erase.html")
def erase_own_data(
    login: Login, session: PageSession, site: Site, database: Database, platforms: PlatformLogins, carrying: Carrying
) -> Any:
    """Have everything that is known of oneself erased, in every community, and one's login with it."""
    own_id = login.more["waddlebot_user_id"]
    identities = _identities(login, platforms)
    owned = platforms.owned_by(own_id) if own_id else []
    form = PageForm(_sure_fields(database, login, owned), session, form_name="erase", submit_value="Erase me")
    # The same for each try, so that no module does anything twice.
    session[ERASING] = session.get(ERASING) or new_id()
    done = Gathered()
    if form.accepted and owned and not form.vars["leave"]:
        form.refuse("Nothing was erased. Hand over first what you own, or say below that it may stay without an owner.")
    if form.accepted and _is_sure(form, site, login):
        if identities:
            done = carrying.erase_everywhere(identities, session[ERASING])
        with acting_for(login), database.transaction() as db:
            record_erasure(db, [own_id] if own_id else [], done, community_id=None)
        if not done.troubles:
            return _goodbye(login, session, site, database, done)
        form.refuse("Not everywhere yet. What is erased stays erased; try again in a moment.")
    return {
        "title": "Erase my data",
        "form": form,
        "identities": identities,
        "owned": owned,
        "troubles": done.troubles,
        "title_of": title_of,
    }


@page("POST", "/portal/profile/sessions/end")
def end_session(login: Login, session: PageSession, flash: PageFlash, site: Site, log: AAALog) -> Any:
    """Sign out elsewhere: one session, or all but this one."""
    check_act(session)
    wanted, store = value("handle"), site.session.store
    ended = [
        each for each in store.list_for(login.id) if each != session.id and (not wanted or _handle(each) == wanted)
    ]
    for each in ended:
        store.delete(each)
    log.auth("sessions_ended", login=login.id, count=len(ended))
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


def _identities(login: Login, platforms: PlatformLogins) -> list[str]:
    own_id = login.more["waddlebot_user_id"]
    accounts = platforms.accounts_of(own_id) if own_id else []
    return [f"{each['platform']}:{each['platform_user_id']}" for each in accounts]


def _sure_fields(database: Database, login: Login, owned: Sequence[Mapping[str, Any]]) -> list[Field]:
    wrong = f"Type “{SURE}”. Nothing was erased."
    sure = Field("sure", label=f"Type “{SURE}”", requires=IS_MATCH(f"(?i:{SURE})$", error_message=wrong))
    (row,) = database.statement(
        "SELECT coalesce(password, '') <> '' AS has_password FROM auth_user WHERE id = %s", (login.id,)
    )
    password = Field("password", "password", label="Your password", requires=IS_NOT_EMPTY("Type it in."))
    names = ", ".join(each["name"] for each in owned)
    leave = Field(
        "leave", "boolean", label=f"Leave {names} without an owner", comment="Who runs this fleet sees to it."
    )
    return [*([leave] if owned else []), sure, *([password] if row["has_password"] else [])]


def _is_sure(form: PageForm, site: Site, login: Login) -> bool:
    """Whether it is who signed in that wants it, as far as there is a password to know them by."""
    if "password" in form.vars:
        try:
            site.signin.check_password(login.email, form.vars["password"])
        except UserError as err:
            form.refuse(password=err.message)
            return False
    return True


def _goodbye(login: Login, session: PageSession, site: Site, database: Database, done: Gathered) -> Any:
    """End the login and all its sessions, and say what became of it."""
    database.statement("DELETE FROM auth_user WHERE id = %s", (login.id,))
    for each in site.session.store.list_for(login.id):
        site.session.store.delete(each)
    session.clear()
    count = sum(done.deleted().values())
    kept = " ".join(f"{each['what'].capitalize()}: {each['why']}" for each in done.kept())
    text = f"{count:,} {'entry is' if count == 1 else 'entries are'} erased, and your login."
    said = {"title": "You are forgotten", "text": f"{text} {f'Kept: {kept}' if kept else ''}".strip(), "action": None}
    return Raw(site.look.render("message.html", said), HTML, headers=site.look.headers)


def _lasts(until: datetime) -> str:
    """How much longer something holds, as people say it."""
    minutes = max(1, round((until - datetime.now(UTC)).total_seconds() / 60))
    return count_of(round(minutes / 60), "hour") if minutes >= 60 else count_of(minutes, "minute")


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
