"""The pages on which people sign in and out and look after their password, below `<prefix>/auth`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from py4web import request, response
from pydal.validators import IS_NOT_EMPTY

from ..base.errors import UserError
from .auth import ANYBODY
from .endpoint import Raw
from .forms import Field, PageForm
from .pages import THEME_COOKIE, THEMES
from .sessions import PageFlash, PageSession
from .signin import Login, TooManyTries
from .site import Site, go_to, page

TEMPLATE = "signin.html"
YEAR_S = 365 * 24 * 3600
RESET_SUBJECT = "A new password for WaddleBot"
RESET_BODY = """Hello {name},

somebody, you we hope, asked for a new password for {site}. To choose one:

{link}

The link works once and for an hour. If it was not you, do nothing: your password stays as it is.
"""


def signin_pages(site: Site) -> list[Callable[..., Any]]:
    """The handlers to mount, for a site's own prefix."""
    desk, route = _Desk(site), site.signin.route

    @page("GET POST", f"{route}/login", TEMPLATE, caller=ANYBODY)
    def sign_in(session: PageSession) -> Any:
        """Ask who somebody is, and lead them on to where they wanted to go."""
        return desk.sign_in(session)

    @page("GET POST", f"{route}/second-step", TEMPLATE, caller=ANYBODY)
    def second_step(session: PageSession) -> Any:
        """Ask for the code that is needed beside the password."""
        return desk.second_step(session)

    @page("POST", f"{route}/logout", caller=ANYBODY)
    def sign_out(session: PageSession, flash: PageFlash) -> Raw:
        """End the session."""
        session.clear()
        flash.set("You are signed out.")
        return go_to(f"{route}/login")

    @page("GET POST", f"{route}/request-reset", TEMPLATE, caller=ANYBODY)
    def request_reset(session: PageSession, flash: PageFlash) -> Any:
        """Send a link for a new password; what is said does not depend on whether there is such an account."""
        return desk.request_reset(session, flash)

    @page("GET POST", f"{route}/reset", TEMPLATE, caller=ANYBODY)
    def reset(session: PageSession, flash: PageFlash) -> Any:
        """Take a new password from whoever has the link."""
        return desk.reset(session, flash)

    @page("GET POST", f"{route}/change-password", TEMPLATE)
    def change_password(login: Login, session: PageSession, flash: PageFlash) -> Any:
        """Change one's own password."""
        return desk.change_password(login, session, flash)

    @page("POST", f"{site.prefix}/theme/<theme>", caller=ANYBODY)
    def choose_theme(theme: str) -> Raw:
        """Keep whether somebody likes it light or dark, for who has no script."""
        value = theme if theme in THEMES else ""
        response.set_cookie(THEME_COOKIE, value, path="/", same_site="Lax", max_age=YEAR_S)
        return go_to(site.local(request.forms.get("next")))

    return [sign_in, second_step, sign_out, request_reset, reset, change_password, choose_theme]


class _Desk:
    """What the handlers do, each a form: shown, refused in words, or accepted."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._signin = site.signin
        self._route = site.signin.route

    def sign_in(self, session: PageSession) -> Any:
        following = self._site.local(request.query.get("next"))
        fields = [_email(), _password("password", "Password")]
        form = PageForm(fields, session, form_name="login", submit_value="Sign in")
        if form.accepted:
            try:
                login = self._signin.check_password(form.vars["email"], form.vars["password"])
            except UserError as err:
                return self._again("Sign in to WaddleBot", form, err, "password", forgot=True)
            if self._signin.needs_second_step(login):
                self._signin.begin_second_step(login, following)
                return go_to(f"{self._route}/second-step")
            self._signin.store_user_in_session(login.id)
            return go_to(following)
        return self._show("Sign in to WaddleBot", form, forgot=True)

    def second_step(self, session: PageSession) -> Any:
        title = "One more step"
        if "second_step" not in session:
            return go_to(f"{self._route}/login")
        code = _field("code", "Code from your app", "Type the code in.", "one-time-code")
        form = PageForm([code], session, form_name="second_step", submit_value="Go on")
        if not form.accepted:
            return self._show(title, form)
        try:
            return go_to(self._signin.take_second_step(form.vars["code"]))
        except UserError as err:
            return self._again(title, form, err, "code")

    def request_reset(self, session: PageSession, flash: PageFlash) -> Any:
        title = "Choose a new password"
        form = PageForm([_email()], session, form_name="request_reset", submit_value="Send the link")
        if not self._site.mail.is_possible:
            form.problem = "This fleet cannot send mail. Ask whoever runs it for a new password."
        elif form.accepted:
            try:
                begun = self._signin.begin_reset(form.vars["email"])
            except TooManyTries as err:
                return self._again(title, form, err, "email")
            if begun:
                self._send(*begun)
            flash.set("If there is such an account, a link is on its way to it.")
            return go_to(f"{self._route}/login")
        return self._show(title, form, lead="We send you a link that works once and for an hour.")

    def _send(self, login: Login, token: str) -> None:
        link = f"{self._site.url}{self._route}/reset?token={token}"
        body = RESET_BODY.format(name=login.name, site=self._site.url, link=link)
        self._site.mail.send_later(login.email, RESET_SUBJECT, body)

    def reset(self, session: PageSession, flash: PageFlash) -> Any:
        token, title = request.query.get("token") or "", "Choose a new password"
        self._signin.check_reset(token)
        new = _password("new_password", "New password", "new-password")
        form = PageForm([new], session, form_name="reset", submit_value="Save password")
        if not form.accepted:
            return self._show(title, form)
        try:
            login = self._signin.reset_password(token, form.vars["new_password"])
        except UserError as err:
            return self._again(title, form, err, "new_password")
        session.clear()
        flash.set(f"Password saved for {login.email}. Sign in with it.")
        return go_to(f"{self._route}/login")

    def change_password(self, login: Login, session: PageSession, flash: PageFlash) -> Any:
        title = "Change your password"
        fields = [
            _password("old_password", "Present password"),
            _password("new_password", "New password", "new-password"),
        ]
        form = PageForm(fields, session, form_name="change_password", submit_value="Save password")
        if not form.accepted:
            return self._show(title, form)
        try:
            self._signin.set_password(login, form.vars["old_password"], form.vars["new_password"])
        except UserError as err:
            field = "new_password" if err.code == "user_error" else "old_password"
            return self._again(title, form, err, field)
        flash.set("Password saved. You are signed out everywhere else.")
        return go_to(self._site.prefix)

    def _again(self, title: str, form: PageForm, err: UserError, field: str, **more: Any) -> dict[str, Any]:
        form.refuse(**{field: err.message})
        response.status = err.http_status
        return self._show(title, form, **more)

    def _show(self, title: str, form: PageForm, *, lead: str = "", forgot: bool = False) -> dict[str, Any]:
        forgot_url = f"{self._route}/request-reset" if forgot and self._site.mail.is_possible else ""
        following = urlencode({"next": self._site.local(request.query.get("next"))})
        ways = [replace(each, href=f"{each.href}?{following}") for each in self._site.ways_in]
        if form.form_name != "login":
            ways = []
        return {"title": title, "form": form, "lead": lead, "forgot": forgot_url, "ways": ways}


def _email() -> Field:
    return _field("email", "E-mail address", "Type your address in.", "username")


def _password(name: str, label: str, autocomplete: str = "current-password") -> Field:
    return _field(name, label, "Type it in.", autocomplete, kind="password")


def _field(name: str, label: str, missing: str, autocomplete: str, *, kind: str = "string") -> Field:
    """One that browsers and password managers know what it is; py4web tells them to keep out."""
    control = {"_autocomplete": autocomplete}
    return Field(name, kind, label=label, requires=IS_NOT_EMPTY(missing), control=control)
