"""Take it with you: a community as a file, a file into a community by a plan, and one person's data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from py4web import request
from waddlebot.base.errors import NotFound, UserError
from waddlebot.base.ids import new_id
from waddlebot.data.database import Database, fetch
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.carrying import MAX_BYTES, Carrying, Gathered, about_person, numbers_of, record_erasure
from ..services.commands import title_of
from ..services.naming import number_of
from ..services.seats import Seat, Seats
from .parts import Buttons, acting_for, as_download, asked, check_act, value

ACTIONS = {"create": "good", "update": "accent", "skip": "", "conflict": "bad"}
SHOWN = 200
# One person's accounts are few.
MAX_IDENTITIES = 100
IDENTITIES = """
WITH head AS (SELECT coalesce(head_id, id) AS id FROM users WHERE id = %(id)s)
SELECT DISTINCT i.platform || ':' || i.platform_user_id AS identity, i.display_name, i.id
FROM platform_identities i WHERE i.user_id IN (
    SELECT id FROM head UNION SELECT u.id FROM users u JOIN head ON u.head_id = head.id)
AND EXISTS (SELECT FROM community_memberships m JOIN head ON true JOIN users u ON u.id = m.user_id
    WHERE m.community_id = %(community)s AND coalesce(u.head_id, u.id) = head.id)
ORDER BY i.id LIMIT %(limit)s
"""


@page("GET", "/portal/c/<community>/data", "data.html")
def show_data(community: str, login: Login, session: PageSession, seats: Seats) -> Any:
    """What can be taken away, brought in and erased."""
    seat = seats.take(login, community, "settings", "owner")
    return seat.shown("Take it with you", button=Buttons(session))


@page("GET", "/portal/c/<community>/data/export")
def export(community: str, login: Login, seats: Seats, carrying: Carrying) -> Any:
    """A community as one file."""
    seat = seats.take(login, community, "settings", "owner")
    document, troubles = carrying.export(seat)
    content = document.model_dump() | ({"missing": troubles} if troubles else {})
    return as_download(f"{seat.place.slug}.waddlebot.json", content)


@page("POST", "/portal/c/<community>/data/import", "data_plan.html", max_body_bytes=MAX_BYTES)
def bring_in(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, carrying: Carrying
) -> Any:
    """What would become of a file here; and when that was looked at, do it."""
    seat = seats.take(login, community, "settings", "owner")
    check_act(session)
    token = value("token")
    if token:
        done = carrying.bring_in(seat, carrying.find_kept(seat, token), apply=True)
        counts = _counts(done)
        words = f"{counts['create']} made, {counts['update']} changed, {counts['skip'] + counts['conflict']} left."
        flash.set(" ".join([words, *_trouble_words(done)]), "bad" if done.troubles else "good")
        return go_to(f"{seat.path}/data")
    sent = request.files.get("file")
    try:
        if sent is None or not sent.filename:
            raise UserError("Choose a file first.")
        document = carrying.read(sent.file.read())
    except UserError as err:
        flash.set(err.message, "bad")
        return go_to(f"{seat.path}/data")
    planned = carrying.bring_in(seat, document, apply=False)
    items = {part.module: part.items for part in document.modules}
    return seat.shown(
        "What would change",
        counts=_counts(planned),
        steps=_steps(planned, items),
        most=SHOWN,
        troubles=planned.troubles,
        kinds=ACTIONS,
        of=document,
        token=carrying.keep(seat, document),
        title_of=title_of,
        button=Buttons(session),
    )


@page("GET", "/portal/c/<community>/data/person", "data_person.html")
def show_person(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    database: Database,
    carrying: Carrying,
) -> Any:
    """What is known of somebody here, before it is taken away or erased."""
    seat = seats.take(login, community, "settings", "owner")
    try:
        people = _identities(database, seat, asked("who"))
    except UserError as err:
        flash.set(err.message, "bad")
        return go_to(f"{seat.path}/data")
    found = carrying.look_up(seat, list(people)) if people else Gathered()
    kept = {name: Counter(item["kind"] for item in each["items"]) for name, each in found.answers.items()}
    return seat.shown(
        "One person's data",
        who=asked("who"),
        people=people,
        kept={name: counts for name, counts in kept.items() if counts},
        troubles=found.troubles,
        request_id=new_id(),
        title_of=title_of,
        button=Buttons(session),
    )


@page("GET", "/portal/c/<community>/data/person/export")
def export_person(community: str, login: Login, seats: Seats, database: Database, carrying: Carrying) -> Any:
    """Everything about somebody here, as a file."""
    seat = seats.take(login, community, "settings", "owner")
    people = _identities(database, seat, asked("who"))
    found = carrying.look_up(seat, list(people)) if people else Gathered()
    return as_download("person.waddlebot.json", about_person(list(people), found))


@page("POST", "/portal/c/<community>/data/person/erase", "data_erased.html")
def erase_person(
    community: str, login: Login, session: PageSession, seats: Seats, carrying: Carrying, database: Database
) -> Any:
    """Forget somebody here, in every module."""
    seat = seats.take(login, community, "settings", "owner")
    check_act(session)
    identities = [each for each in value("identities").split(",") if each][:MAX_IDENTITIES]
    if not identities or not value("request_id") or value("sure").casefold() != "erase":
        raise NotFound("Say who should be forgotten, and type “erase”. Nothing was erased.")
    done = carrying.erase(seat, identities, value("request_id"))
    with acting_for(login), database.transaction() as db:
        record_erasure(db, numbers_of(db, identities), done, community_id=seat.community_id)
    return seat.shown(
        "Erased" if not done.troubles else "Not everywhere yet",
        deleted=done.deleted(),
        kept=done.kept(),
        troubles=done.troubles,
        identities=",".join(identities),
        request_id=value("request_id"),
        title_of=title_of,
        button=Buttons(session),
    )


def _identities(database: Database, seat: Seat, who: str) -> dict[str, str]:
    """A member's accounts on all platforms, and their names there; as it was written, if it is one account."""
    if not who:
        return {}
    number = number_of(database, seat.community_id, who)
    if ":" in number:
        return {number: number}
    with database.lookup() as db:
        parameters = {"id": int(number[:18]), "community": seat.community_id, "limit": MAX_IDENTITIES}
        rows = fetch(db, IDENTITIES, parameters)
    if not rows:
        raise NotFound("There is no such member here.")
    return {row["identity"]: row["display_name"] for row in rows}


def _counts(found: Gathered) -> Counter[str]:
    return Counter(step["action"] for each in found.answers.values() for step in each["plan"])


def _steps(found: Gathered, items: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every step, what needs looking at first; each with the item that it is about."""
    steps = [
        {**step, "module": name, "item": _name_of(items[name][step["index"]])}
        for name, each in found.answers.items()
        for step in each["plan"]
    ]
    order = ("conflict", "create", "update", "skip")
    return sorted(steps, key=lambda step: order.index(step["action"]))[:SHOWN]


NAMES = ("alias", "item_name", "name", "label", "string", "command", "module_id", "module", "user", "role")


def _name_of(item: Mapping[str, Any]) -> str:
    """What people know an item by."""
    named = next((str(item[name]) for name in NAMES if item.get(name)), "")
    return named or ":".join(str(item.get(name, "")) for name in ("platform", "platform_user_id")).strip(":")


def _trouble_words(found: Gathered) -> list[str]:
    return [f"{title_of(name)}: {why}" for name, why in list(found.troubles.items())[:3]]
