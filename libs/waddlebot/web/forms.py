"""py4web's Form and Grid, for pages with a strict policy and for people who are not alone in the database.

A form never writes: what it accepted is handed to the service or the API that owns the rows. A grid only lists:
py4web's own edit, delete and show rows that its query does not cover.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from py4web import URL, Session, request, response
from py4web.utils.form import Form, FormStyleFactory
from py4web.utils.grid import Column, Grid, IconStyle
from pydal import Field
from yatl.helpers import DIV, FORM, SPAN, TABLE, TAG, TH, THEAD, TR, XML, A, P

from ..base.wire import clean

KEY_LIFETIME_S = 8 * 3600
STALE = "This page was open too long. Press the button again."
PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,6}")
ENCODING = "multipart/form-data"


class FormStyle(FormStyleFactory):  # type: ignore[misc]
    """Rows of label, control, hint and error in the look; errors and hints are tied to their control."""

    def __init__(self) -> None:
        super().__init__()
        self.classes.update({"outer": "row", "inner": "control", "info": "hint", "error": "error"})
        self.classes["input[type=submit]"] = "btn primary"

    def __call__(self, *args: Any, **options: Any) -> dict[str, Any]:
        made: dict[str, Any] = super().__call__(*args, **options)
        form, controls = made["form"], made["controls"]
        # py4web's own action names the host as the client spelled it.
        form.attributes["_action"] = _here()
        controls["begin"] = XML(
            FORM(_method=form.attributes["_method"], _action=_here(), _enctype=ENCODING).xml().split("</form>")[0]
        )
        for row in form.children:
            _mend_row(row, controls)
        return made


def _here() -> str:
    return str(request.path) + (f"?{request.query_string}" if request.query_string else "")


def _mend_row(row: Any, controls: Mapping[str, Any]) -> None:
    parts = [each for each in getattr(row, "children", []) if hasattr(each, "attributes")]
    label = next((each for each in parts if each.name == "label"), None)
    if label is None:
        return
    label.attributes.pop("_style", None)
    key = label.attributes.get("_for") or ""
    name = next((each for each in controls["widgets"] if key.endswith(f"_{each}")), "")
    control = controls["widgets"].get(name)
    if not hasattr(control, "attributes"):
        return
    described = []
    for text in (each for each in parts if each.name == "p" and each.children and each.children[0]):
        kind = "error" if "error" in (text.attributes.get("_class") or "") else "hint"
        text.attributes["_id"] = f"{key}-{kind}"
        described.append(f"{key}-{kind}")
    if described:
        control.attributes["_aria-describedby"] = " ".join(described)
    if name in controls["errors"]:
        control.attributes["_aria-invalid"] = "true"
    if control.attributes.get("_type") == "checkbox":
        row.attributes["_class"] = "row switch"


STYLE = FormStyle()


class PageForm(Form):  # type: ignore[misc]
    """A form of fields or of a table's, with a key that only its own session's pages have.

    `accepted` says that `vars` are good; otherwise `errors` has them by field, and `problem` what is wrong with the
    whole. A form that was refused answers 422, with everything that was typed.
    """

    def __init__(self, fields: Any, session: Session, record: Any = None, **options: Any) -> None:
        # py4web's own key is made of the time and the machine's address.
        if not session.get("_formkey"):
            session["_formkey"] = secrets.token_urlsafe(32)
        settled = {"dbio": False, "deletable": False, "csrf_protection": True, "csrf_session": session}
        options = {
            "formstyle": STYLE,
            "lifespan": KEY_LIFETIME_S,
            "keep_values": True,
            "showreadonly": False,
            **options,
        }
        super().__init__(fields, record, **options, **settled)
        self.vars: dict[str, Any] = clean(self.vars)
        mine = self.post_vars.get("_formname", self.form_name) == self.form_name
        self.is_stale = bool(self.submitted and mine and not self.accepted and not self.errors)
        self.problem = STALE if self.is_stale else ""
        if self.is_stale or self.errors:
            response.status = 422

    def refuse(self, problem: str = "", **errors: str) -> None:
        """Take back that it was accepted: a service had something against it."""
        self.accepted, self.problem, self.cached_helper = False, problem, None
        self.errors.update(errors)
        response.status = 422


class _Classes:
    """A cell's own words are its classes; py4web's own words are nobody's."""

    @staticmethod
    def get(name: str | None, default: str | None = None) -> str:  # noqa: ARG004 - py4web's
        return "" if not name or name.startswith("grid-") else name


class ListGrid(Grid):  # type: ignore[misc]
    """A table of the rows of a query, with pages and, where a column has `orderby`, an order to choose.

    Of the address only `page`, `orderby` by one of the columns, and what `keeps` names is taken notice of. Columns may
    have `td_class_style`: `r` for numbers, and `first` or `second` for what a phone shows at the right; the
    second and third have these by themselves.
    """

    def __init__(
        self,
        query: Any,
        columns: Sequence[Column | Field],
        *,
        orderby: Any = None,
        rows_per_page: int = 25,
        keeps: Sequence[str] = (),
        **options: Any,
    ) -> None:
        kept = _known_parameters(request.query, columns, keeps)
        request.query.clear()
        request.query.update(kept)
        only_lists = {"create": False, "details": False, "editable": False, "deletable": False, "search_queries": None}
        super().__init__(
            query,
            **{**options, **only_lists},
            columns=list(columns),
            orderby=orderby,
            rows_per_page=rows_per_page,
            formstyle=STYLE,
            grid_class_style=_Classes,
            icon_style=IconStyle,
            auto_process=False,
        )
        self.query_parms = kept
        # py4web's own write dates by scripts in the cells.
        self.represent_by_type |= {kind: lambda _, value: when(value) for kind in ("datetime", "date", "time")}
        self.process()
        for column, place in zip(self.columns[1:], ("first", "second"), strict=False):
            column.td_class_style = column.td_class_style or place

    def _make_table(self) -> DIV:
        table = TABLE(self._make_table_header(), self._make_table_body(), _class="data")
        return DIV(DIV(table, _class="grid-table-wrapper"), self._make_footer())

    def _make_table_header(self) -> THEAD:
        chosen = request.query.get("orderby", "")
        row = TR()
        for index, column in enumerate(self.columns):
            cell = TH(self._make_col_header(column, index, chosen), _scope="col")
            if isinstance(column.td_class_style, str):
                cell.attributes["_class"] = column.td_class_style
            if column.orderby is not None and chosen.lstrip("~") == str(column.orderby):
                cell.attributes["_aria-sort"] = "descending" if chosen.startswith("~") else "ascending"
            row.append(cell)
        return THEAD(row)

    def _make_footer(self) -> DIV:
        footer = DIV(P(f"{self.total_number_of_rows:,} in all", _class="grid-info"), _class="grid-footer")
        last = max(1, self.number_of_pages)
        if last > 1:
            now = self.current_page_number
            steps = (("First", 1, now > 1), ("Previous", now - 1, now > 1), ("Next", now + 1, now < last))
            where = SPAN(f"Page {now} of {last}", _class="muted num")
            footer.append(
                TAG.nav(where, *(self._step(*each) for each in steps), _class="pages", **{"_aria-label": "Pages"})
            )
        return footer

    def _step(self, text: str, page: int, leads: bool) -> A:
        if not leads:
            return A(text, _class="btn small", **{"_aria-disabled": "true"})
        return A(text, _class="btn small", _href=URL(vars={**self.query_parms, "page": page}))


def _known_parameters(query: Mapping[str, str], columns: Sequence[Any], keeps: Sequence[str]) -> dict[str, str]:
    """What of an address a list understands; the rest is as if it were not there."""
    orders = {str(order) for each in columns if (order := each.orderby if isinstance(each, Column) else each)}
    kept = {name: str(query[name]) for name in keeps if query.get(name)}
    if PAGE_NUMBER.fullmatch(query.get("page") or ""):
        kept["page"] = query["page"]
    if (query.get("orderby") or "").removeprefix("~") in orders:
        kept["orderby"] = query["orderby"]
    return kept


def when(moment: Any) -> Any:
    """A time as people read it, with the exact one for programs. The database's are UTC."""
    if not moment:
        return ""
    if isinstance(moment, datetime):
        exact = moment.replace(tzinfo=moment.tzinfo or UTC).isoformat(timespec="seconds")
        return TAG.time(f"{moment:%d %b %Y, %H:%M}", _datetime=exact)
    return TAG.time(str(moment), _datetime=moment.isoformat())
