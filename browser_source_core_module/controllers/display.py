"""What the router shows, and the pages that show it."""

from __future__ import annotations

from typing import Any

from waddlebot.base.contracts import FormData
from waddlebot.base.errors import Invalid
from waddlebot.base.logs import AAALog, log_context
from waddlebot.base.metrics import Metrics
from waddlebot.community.communities import UnknownCommunity, find_community
from waddlebot.data.database import Database, DatabaseUnavailable
from waddlebot.web.auth import ANYBODY, ROUTER_ONLY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.browser_source_service import BrowserSourceService, Shown
from ..services.form_service import FormService
from ..services.frames import Source
from ..services.page_service import REPORT_PATH, PageService, read_report
from ..services.router_service import Content, ContentService, DisplayRequest
from ..services.theme_service import ThemeService
from ..services.token_service import TokenService

HTML = "text/html; charset=utf-8"
MAX_REPORT_BYTES = 16 * 1024
# From one address. A page that breaks its policy says so a few times; anybody may claim that it does.
REPORTS_PER_MINUTE = 20


class DisplayDesk:
    """Takes what is to be shown, whoever it comes from."""

    def __init__(
        self,
        database: Database,
        content: ContentService,
        overlays: BrowserSourceService,
        forms: FormService,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._content = content
        self._overlays = overlays
        self._forms = forms
        self._items = metrics.counter("items", "Items shown, by overlay.", ["source_type", "mode"])
        self.reports = metrics.counter("policy_reports", "Things that browsers refused to load in our pages.")

    def show(self, request: DisplayRequest) -> dict[str, Any]:
        """Raises: Invalid; UnknownCommunity."""
        content = self._content.read(request.response_action, request.response_data)
        if content.source_type != request.source_type:
            raise Invalid(f"source_type: a {content.action} is shown on {content.source_type}.", field="source_type")
        source = Source(self._community(request.community_id), content.source_type)
        is_test = request.mode == "simulate"
        if content.action == "form" and not is_test:
            shown, more = self._show_form(source, content, request)
        else:
            shown = self._overlays.show(
                source, content, item_id=request.item_id, session_id=request.session_id, is_test=is_test
            )
            more = {}
        self._items.labels(source.source_type, request.mode).inc()
        return {
            "success": True,
            "item_id": request.item_id,
            "source_type": source.source_type,
            "seq": shown.seq,
            "duplicate": shown.duplicate,
            **more,
        }

    def _show_form(self, source: Source, content: Content, request: DisplayRequest) -> tuple[Shown, dict[str, str]]:
        with self._database.transaction() as db:
            shown = self._overlays.show_in(db, source, content, item_id=request.item_id, session_id=request.session_id)
            self._forms.open(
                db,
                FormData.model_validate(request.response_data),
                community_id=source.community_id,
                history_id=shown.id,
                session_id=request.session_id,
            )
        self._overlays.announce(source)
        return shown, {"form_url": self._forms.url_of(shown.id)}

    def _community(self, reference: int | str) -> int:
        if isinstance(reference, int):
            return reference
        with self._database.transaction() as db:
            found = find_community(db, reference)
        if found is None:
            raise UnknownCommunity()
        return found


@endpoint("POST", "/browser/source/display", caller=ROUTER_ONLY, body=DisplayRequest)
def display(request: DisplayRequest, desk: DisplayDesk) -> dict[str, Any]:
    """Show something on a community's overlay, once however often it is sent."""
    log_context().session_id = request.session_id
    return desk.show(request)


@endpoint("GET", "/browser/source/<token>/<source_type>", caller=ANYBODY)
def overlay_page(
    token: str,
    source_type: str,
    request: RawRequest,
    tokens: TokenService,
    themes: ThemeService,
    pages: PageService,
    overlays: BrowserSourceService,
) -> Raw:
    """Serve the page that OBS opens."""
    pages.check(source_type)
    theme: dict[str, str] = {}
    is_preview = False
    try:
        admission = tokens.admit(token, source_type)
        is_preview = admission.is_preview
        theme = themes.find(admission.community_id)
        if not is_preview:
            overlays.log_access(
                Source(admission.community_id, source_type),
                token_id=admission.token_id,
                address=request.address,
                user_agent=request.headers.get("user-agent", ""),
            )
    except DatabaseUnavailable:
        pass  # OBS does not try again, the page does: its socket is let in as soon as the token can be checked.
    page = pages.overlay(token, source_type, theme, is_preview=is_preview)
    return Raw(page, HTML, headers=pages.overlay_headers(source_type, is_preview=is_preview))


@endpoint("POST", REPORT_PATH, caller=ANYBODY, max_body_bytes=MAX_REPORT_BYTES, per_minute=REPORTS_PER_MINUTE)
def policy_report(request: RawRequest, desk: DisplayDesk, log: AAALog) -> dict[str, Any]:
    """Take a browser's report that our page tried to load what its policy forbids."""
    desk.reports.inc()
    log.system("overlay_policy_violated", result="FAILED", address=request.address, **read_report(request.body))
    return {"success": True}
