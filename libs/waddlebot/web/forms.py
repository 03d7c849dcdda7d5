"""py4web's Form and Grid, for pages with a strict policy and for people who are not alone in the database.

A form never writes: what it accepted is handed to the service or the API that owns the rows. A grid only lists:
py4web's own edit, delete and show rows that its query does not cover.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, ClassVar

from py4web import URL, Session, request, response
from py4web.utils.form import Form, FormStyleFactory, get_options
from py4web.utils.grid import Column, Grid, IconStyle
from pydal import Field as TableField
from yatl.helpers import DIV, FORM, INPUT, SPAN, TABLE, TAG, TH, THEAD, TR, XML, A, P

from ..base.wire import clean

KEY_LIFETIME_S = 8 * 3600
STALE = "This page was open too long. Press the button again."
SIGNED = "waddlebot.form_key"
PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,6}")
ENCODING = "multipart/form-data"
# Forms as they look before anybody has filled them in; each has some kilobytes.
BLANKS_KEPT = 500


class Field(TableField):  # type: ignore[misc]
    """A field of a form, made for one request; `control` has attributes of its control. PyDAL's have most of what they
    have per thread, for tables that all threads share; that takes longer than all else about them."""

    readable = writable = True
    default = filter_in = filter_out = label = update = requires = widget = represent = None

    def __init__(self, name: str, *args: Any, control: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(name, *args, **options)
        self.control = control or {}


class FormStyle(FormStyleFactory):  # type: ignore[misc]
    """Rows of label, control, hint and error in the look; errors and hints are tied to their control."""

    def __init__(self) -> None:
        super().__init__()
        self.classes.update({"outer": "row", "inner": "control", "info": "hint", "error": "error"})
        self.classes["input[type=submit]"] = "btn primary"

    def __call__(self, table: Any, *args: Any, **options: Any) -> dict[str, Any]:
        made: dict[str, Any] = super().__call__(table, *args, **options)
        form, controls = made["form"], made["controls"]
        for field in table:
            if isinstance(field, Field) and field.control:
                controls["widgets"][field.name].attributes.update(field.control)
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


def _look_of(field: Field) -> Hashable:
    """All that a field's row is made of. Raises: TypeError for one that is made by code of its own."""
    value, more = field.default, field.__dict__
    if field.widget or callable(value) or field.type == "upload":
        raise TypeError
    shown = type(value), value, field.formatter("" if value is None else value)
    options = tuple(map(tuple, get_options(field.requires) or ()))
    kind = field.type, field.tablename, field.readable, field.writable, more.get("_title"), more.get("_placeholder")
    return field.name, field.label, field.comment, *kind, *shown, options, *getattr(field, "control", {}).items()


@dataclass(frozen=True, slots=True)
class Parts:
    """A form as text: what stands around its address and its key, and by field what a template may place by itself."""

    begin: str
    middle: str
    end: str
    labels: Mapping[str, Any]
    widgets: Mapping[str, XML]
    comments: Mapping[str, Any]


class PageForm(Form):  # type: ignore[misc]
    """A form of fields or of a table's, with a key that only its own session's pages have.

    `accepted` says that `vars` are good; otherwise `errors` has them by field, and `problem` what is wrong with the
    whole. A form that was refused answers 422, with everything that was typed.
    """

    _blanks: ClassVar[dict[Hashable, Parts]] = {}
    _keeping = threading.Lock()
    _parts: Parts | None = None
    formkey: str

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

    def _sign_form(self) -> None:
        """With one key for all forms of a page."""
        made = request.environ.get(SIGNED)
        if made is None or made[0] != self.csrf_session.get("_formkey"):
            super()._sign_form()
            made = request.environ[SIGNED] = self.csrf_session.get("_formkey"), str(self.formkey)
        self.formkey = made[1]

    @property
    def parts(self) -> Parts:
        """What it is made of; of a form that nobody has filled in that is made once for everybody."""
        if self._parts is None:
            look = self._look()
            kept = self._blanks.get(look) if look else None
            self._parts = kept or self._make_parts()
            if look and not kept:
                self._keep(look, self._parts)
        return self._parts

    @property
    def hidden(self) -> XML:
        """The fields that nobody sees, for a template that places the others by itself."""
        names = {"_formname": self.form_name, "_formkey": self.formkey}
        return XML("".join(INPUT(_type="hidden", _name=name, _value=each).xml() for name, each in names.items()))

    def xml(self) -> str:
        parts = self.parts
        return f"{parts.begin}{escape(_here())}{parts.middle}{self.formkey}{parts.end}"

    def _make_parts(self) -> Parts:
        begin, action, rest = str(super().xml()).partition(' action="')
        middle, _, end = rest[rest.index('"') :].partition(self.formkey)
        made = self.custom
        widgets = {name: XML(each.xml()) for name, each in made.widgets.items()}
        return Parts(begin + action, middle, end, made.labels, widgets, made.comments)

    def _keep(self, look: Hashable, parts: Parts) -> None:
        with self._keeping:
            while len(self._blanks) >= BLANKS_KEPT:
                del self._blanks[next(iter(self._blanks))]  # The one that was kept first.
            self._blanks[look] = parts

    def _look(self) -> tuple[Hashable, ...] | None:
        """All that it is made of, but for address and key; None where that is more than can be compared."""
        changed = self.cached_helper, self.submitted, self.vars, self.readonly, self.action, *self.param.sidecar
        if any(changed) or self.param.hidden or not isinstance(self.table, list):
            return None
        try:
            around = self.form_name, self.param.submit_value, self.param.formstyle, *self.kwargs.items()
            look = *around, *map(_look_of, self.table)
            hash(look)
        except TypeError:
            return None
        return look

    def refuse(self, problem: str = "", **errors: str) -> None:
        """Take back that it was accepted: a service had something against it."""
        self.accepted, self.problem, self.cached_helper, self._parts = False, problem, None, None
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
        columns: Sequence[Column | TableField],
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
