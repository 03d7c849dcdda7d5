"""The page on which one viewer answers a form."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from waddlebot.base.errors import Invalid, UpstreamError, UserError
from waddlebot.base.wire import clean
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint
from waddlebot.web.pages import Pages
from yatl.helpers import XML

from ..services.form_fields import draw, read_answers
from ..services.form_service import FormService, OpenForm

MAX_FORM_BYTES = 64 * 1024


class FormPages(Pages):
    """What a viewer sees of a form; `folder` is the module's, whose static files the overlays need too."""

    def __init__(self, folder: Path) -> None:
        super().__init__("/browser/form", folder, prefix="/browser", start="")

    def asking(
        self,
        form: OpenForm,
        sent: dict[str, list[str]] | None = None,
        problems: dict[str, str] | None = None,
        *,
        status: int = 200,
    ) -> Raw:
        sent, problems = sent or {}, problems or {}
        fields = (draw(each, sent.get(each.name, []), problems.get(each.name, "")) for each in form.form.form_fields)
        return self.page(
            "form.html",
            form.form.form_title,
            status=status,
            description=form.form.form_description,
            fields=XML("".join(fields)),
            problem=problems.get("", ""),
        )

    def thanks(self, form: OpenForm) -> Raw:
        """Where to go next, if the module said so; a page of ours in between says what happened."""
        url = form.form.form_callback_url
        following = url if url.startswith(("https://", "http://")) else ""
        return self.page("form_sent.html", "Thank you", following=following)

    def closed(self, err: UserError) -> Raw:
        return self.message("This form is closed", err.message, status=err.http_status)


@endpoint("GET", "/browser/form/<link>", caller=ANYBODY)
def form_page(link: str, forms: FormService, pages: FormPages) -> Raw:
    """Serve a form to the viewer who has its link."""
    try:
        return pages.asking(forms.find(link))
    except UserError as err:
        return pages.closed(err)


@endpoint("POST", "/browser/form/<link>", caller=ANYBODY, max_body_bytes=MAX_FORM_BYTES)
def submit_form(link: str, request: RawRequest, forms: FormService, pages: FormPages) -> Raw:
    """Take a viewer's answers, once, and hand them to the module that asked."""
    try:
        form = forms.find(link)
        sent = _read(request.body)
        answers, problems = read_answers(form.form.form_fields, sent)
        if problems:
            return pages.asking(form, sent, problems, status=422)
        forms.submit(link, answers)
    except UserError as err:
        return pages.closed(err)
    except UpstreamError:
        message = "That did not get through. Nothing was sent; please try again in a moment."
        return pages.asking(form, sent, {"": message}, status=502)
    return pages.thanks(form)


def _read(body: bytes) -> dict[str, list[str]]:
    """Raises: Invalid."""
    try:
        fields: Any = clean(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=500))
    except ValueError as err:
        raise Invalid("The form cannot be read.") from err
    return {str(name): [str(value) for value in values] for name, values in fields.items()}
