"""The page on which one viewer answers a form."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from waddlebot.base.errors import Invalid, UpstreamError, UserError
from waddlebot.base.wire import clean
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.form_fields import draw, read_answers
from ..services.form_service import FormService, OpenForm
from ..services.page_service import PageService, escape
from .display import HTML

MAX_FORM_BYTES = 64 * 1024


@endpoint("GET", "/browser/form/<link>", caller=ANYBODY)
def form_page(link: str, forms: FormService, pages: PageService) -> Raw:
    """Serve a form to the viewer who has its link."""
    try:
        return _page(pages, _asking(forms.find(link)))
    except UserError as err:
        return _page(pages, _saying("This form is closed", err.message), status=err.http_status)


@endpoint("POST", "/browser/form/<link>", caller=ANYBODY, max_body_bytes=MAX_FORM_BYTES)
def submit_form(link: str, request: RawRequest, forms: FormService, pages: PageService) -> Raw:
    """Take a viewer's answers, once, and hand them to the module that asked."""
    try:
        form = forms.find(link)
        sent = _read(request.body)
        answers, problems = read_answers(form.form.form_fields, sent)
        if problems:
            return _page(pages, _asking(form, sent, problems), status=422)
        forms.submit(link, answers)
    except UserError as err:
        return _page(pages, _saying("This form is closed", err.message), status=err.http_status)
    except UpstreamError:
        message = "That did not get through. Nothing was sent; please try again in a moment."
        return _page(pages, _asking(form, sent, {"": message}), status=502)
    return _page(pages, _thanks(form))


def _read(body: bytes) -> dict[str, list[str]]:
    """Raises: Invalid."""
    try:
        fields: Any = clean(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=500))
    except ValueError as err:
        raise Invalid("The form cannot be read.") from err
    return {str(name): [str(value) for value in values] for name, values in fields.items()}


def _asking(
    form: OpenForm, sent: dict[str, list[str]] | None = None, problems: dict[str, str] | None = None
) -> dict[str, str]:
    sent, problems = sent or {}, problems or {}
    fields = "".join(
        draw(field, sent.get(field.name, []), problems.get(field.name, "")) for field in form.form.form_fields
    )
    general = f'<p class="problem" role="alert">{escape(problems[""])}</p>' if "" in problems else ""
    send = '<button type="submit">Send</button>'
    return {
        "title": escape(form.form.form_title),
        "description": escape(form.form.form_description),
        "body": f'<form method="post" action="">{general}{fields}{send}</form>',
        "head": "",
    }


def _thanks(form: OpenForm) -> dict[str, str]:
    """Where to go next, if the module said so; a page of ours in between says what happened."""
    url = form.form.form_callback_url
    if not url.startswith(("https://", "http://")):
        return _saying("Thank you", "Your answer is on its way. You can close this page.")
    said = _saying("Thank you", "Your answer is on its way.")
    link = f'<p><a class="button" rel="noreferrer" href="{escape(url)}">Go on</a></p>'
    return {**said, "body": link, "head": f'<meta http-equiv="refresh" content="3; url={escape(url)}">'}


def _saying(title: str, text: str) -> dict[str, str]:
    return {"title": escape(title), "description": escape(text), "body": "", "head": ""}


def _page(pages: PageService, parts: dict[str, str], *, status: int = 200) -> Raw:
    return Raw(pages.form(**parts), HTML, status, pages.form_headers())
