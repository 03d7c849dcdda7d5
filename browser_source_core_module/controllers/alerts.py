"""Alerts: what is shown and said when something happens, set over HTTP, run by moderators from chat."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.chat import closest
from waddlebot.base.contracts import AlertAnimation, AlertPosition, Colour, ModuleResponse, PlatformName, Strict
from waddlebot.base.errors import Invalid, UsageError
from waddlebot.base.ids import new_id
from waddlebot.base.terms import Label
from waddlebot.base.text import fold
from waddlebot.community.communities import Reference, community_of, get_community
from waddlebot.community.live import Spot, look_up
from waddlebot.data.audit import who_acts
from waddlebot.data.database import Database
from waddlebot.module.interaction import Call, say
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.alert_items import Amount, EventName
from ..services.alert_service import FIELDS, AlertService, OtherHalf
from ..services.alerts import (
    ANONYMOUS,
    DEFAULTS,
    EVENTS,
    Alert,
    Happening,
    as_general,
    as_test,
    choose,
    default_for,
    fill,
    remarks,
    sample_for,
)
from ..services.browser_source_service import BrowserSourceService, Control, NothingToReplay
from ..services.frames import QUEUES, Source, item_frame
from ..services.router_service import ContentService, DisplayRequest
from ..services.token_service import PREVIEWED_FOR, TokenService
from .display import DisplayDesk

GENERAL = "general"
Line = Annotated[str, StringConstraints(max_length=200)]
Address = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)]


class AlertFields(Strict):
    """What may be said of an alert; what is left out, or null, stays as it was."""

    platforms: list[PlatformName] | None = Field(None, max_length=20)
    labels: list[Label] | None = Field(None, max_length=20)
    is_active: bool | None = None
    min_amount: Amount | None = None
    max_amount: Amount | None = None
    weight: float | None = Field(None, ge=0, le=1000)
    title: Line | None = None
    text: Annotated[str, StringConstraints(max_length=500)] | None = None
    chat_message: Annotated[str, StringConstraints(max_length=400)] | None = None
    image: Address | None = None
    sound: Address | None = None
    volume: int | None = Field(None, ge=0, le=100)
    accent: Colour | None = None
    animation: AlertAnimation | None = None
    position: AlertPosition | None = None
    display_s: float | None = Field(None, ge=0.1, le=120)

    def said(self) -> dict[str, Any]:
        """The alert's fields that the request names. A limit that is null is none; anything else that is, absent."""
        named = self.model_dump(include=self.model_fields_set & set(FIELDS))
        return {name: value for name, value in named.items() if value is not None or name in LIMITS}


LIMITS = ("min_amount", "max_amount")


class NewAlert(AlertFields):
    event: EventName
    community_id: Reference | None = None


class AlertChange(AlertFields):
    # Left out only by who takes a change back: the audit log knows then whether it is as it was left.
    version: int | None = None
    # May be repeated from what was read.
    id: int | None = None
    event: EventName | None = None
    community_id: Reference | None = None


class AlertsQuery(Strict):
    community_id: str | None = None


class DeletionQuery(Strict):
    version: int | None = None
    community_id: str | None = None


@endpoint("GET", "/browser/source/admin/alerts", caller=ADMINS_OR_API_USERS, area="overlays", query=AlertsQuery)
def list_alerts(query: AlertsQuery, caller: Account, db: DAL, alerts: AlertService) -> dict[str, Any]:
    """List a community's alerts, and the built-in ones, which are shown for events that it has none of."""
    found = alerts.list_for(db, community_of(db, caller, query.community_id))
    own = {row["event"] for row in found}
    built_in = [{name: getattr(each, name) for name in FIELDS} for each in DEFAULTS if each.event not in own]
    return whole_list_answer("alerts", found, built_in=built_in)


@endpoint(
    "POST",
    "/browser/source/admin/alerts",
    caller=ADMINS_OR_API_USERS,
    area="overlays",
    body=NewAlert,
    query=AlertsQuery,
)
def add_alert(wanted: NewAlert, query: AlertsQuery, caller: Account, db: DAL, alerts: AlertService) -> dict[str, Any]:
    """Add an alert. The first one of an event takes the place of the built-in ones."""
    reference = query.community_id if wanted.community_id is None else wanted.community_id
    community_id = community_of(db, caller, reference)
    made = alerts.add(db, community_id, wanted.said(), by=caller.name)
    return {"success": True, "alert": made, "remarks": remarks(made)}


@endpoint(
    "PUT", "/browser/source/admin/alerts/<alert_id:int>", caller=ADMINS_OR_API_USERS, area="overlays", body=AlertChange
)
def change_alert(alert_id: int, wanted: AlertChange, caller: Account, db: DAL, alerts: AlertService) -> dict[str, Any]:
    """Change an alert, as it was read: 409 when somebody else was faster."""
    acting = who_acts()
    if wanted.version is None and (acting is None or acting.undoes is None):
        raise Invalid("version is missing.", field="version")
    made = alerts.change(db, alert_id, wanted.version, wanted.said(), caller)
    return {"success": True, "alert": made, "remarks": remarks(made)}


@endpoint(
    "DELETE",
    "/browser/source/admin/alerts/<alert_id:int>",
    caller=ADMINS_OR_API_USERS,
    area="overlays",
    query=DeletionQuery,
)
def delete_alert(alert_id: int, query: DeletionQuery, caller: Account, db: DAL, alerts: AlertService) -> dict[str, Any]:
    """Delete an alert. After the last one of an event the built-in ones are shown again."""
    alerts.delete(db, alert_id, query.version, caller)
    return {"success": True, "id": alert_id}


@endpoint("POST", "/browser/source/admin/alerts/<alert_id:int>/test", caller=ADMINS_OR_API_USERS, area="overlays")
def test_alert(
    alert_id: int, caller: Account, database: Database, alerts: AlertService, desk: DisplayDesk
) -> dict[str, Any]:
    """Show an alert with an example, marked TEST; nothing is said or counted."""
    with database.transaction() as db:
        row = alerts.get(db, alert_id, caller)
        known = alerts.alerts_of(db, row["community_id"], row["event"], only=alert_id)
    (alert,) = known
    item = DisplayRequest(
        item_id=f"test-{new_id()}",
        session_id=new_id(),
        community_id=row["community_id"],
        source_type=GENERAL,
        response_action=GENERAL,
        response_data=as_general(alert, sample_for(alert)),
        mode="simulate",
    )
    return desk.show(item)


class Preview(Strict):
    """What to look at: an overlay, or all of them. With `show`, what a module answered, one alone, and the item for it,
    which the page around it hands over; `item_only` where that page has the URL already."""

    source_type: Literal["ticker", "media", "general", "all"] = "all"
    community_id: Reference | None = None
    show: dict[str, Any] | None = None
    item_only: bool = False


@endpoint(
    "POST",
    "/browser/source/admin/preview",
    caller=ADMINS_OR_API_USERS,
    area="overlays",
    body=Preview,
    only_asks=True,
    query=AlertsQuery,
)
def preview(
    wanted: Preview,
    query: AlertsQuery,
    caller: Account,
    database: Database,
    tokens: TokenService,
    content: ContentService,
) -> dict[str, Any]:
    """Give the URL of an overlay for looking only, for 15 minutes: silent, and what it shows counts nowhere."""
    reference = query.community_id if wanted.community_id is None else wanted.community_id
    community_id = get_community(database, caller, reference)
    if wanted.show is None:
        return {"success": True, **tokens.preview(community_id, wanted.source_type, by=caller.name)}
    if wanted.source_type == "all":
        raise Invalid("source_type: name the overlay that shows it.", field="source_type")
    read = content.read(wanted.source_type, wanted.show)
    item = item_frame(
        1,
        f"preview-{new_id()}",
        read.as_json(),
        display_s=read.display_s,
        is_test=False,
        expires_in_s=PREVIEWED_FOR.total_seconds(),
    )
    made = {} if wanted.item_only else tokens.preview(community_id, wanted.source_type, by=caller.name)
    return {"success": True, **made, "item": json.loads(item)}


class AlertChat:
    """What happens becomes an alert and a line in chat; moderators skip, pause, resume, replay and try alerts."""

    def __init__(self, alerts: AlertService, overlays: BrowserSourceService, content: ContentService) -> None:
        self._alerts = alerts
        self._overlays = overlays
        self._content = content

    def celebrate(self, call: Call, *_: str) -> list[ModuleResponse]:
        """Show and say what a community wants for an event."""
        happening = _happening(call)
        if happening.is_part_of_another:
            return []
        alert = self._chosen(call, happening)
        if alert is None:
            return []
        other = None if call.is_simulated else self._alerts.other_half(call.db, happening.event, call.payload)
        if other is None:
            return self._tell(call, alert, happening)
        if happening.event == "subscription":
            is_told = other.was_told or (other.is_coming and self._chosen(call, _as_resub(happening, other)))
            return [] if is_told else self._tell(call, alert, happening)
        return self._tell_more(call, alert, happening, other)

    def _chosen(self, call: Call, happening: Happening) -> Alert | None:
        known = self._alerts.alerts_of(call.db, call.community_id, happening.event)
        return choose(known, happening, seed=call.payload.execution_id)

    def _tell(self, call: Call, alert: Alert, happening: Happening) -> list[ModuleResponse]:
        person = call.payload.user
        spot = Spot(call.community_id, call.entity_id, person.id, person.ids)
        values = look_up(call.db, alert.looked_up, spot)
        if alert.counts:
            values["count"] = str(self._alerts.count_shown(call.db, alert))
        happening = replace(happening, known=values)
        shown = ModuleResponse(response_action=GENERAL, response_data=as_general(alert, happening))
        line = fill(alert.chat_message, happening, platform=call.platform)
        return [shown, say(line, markup=True)] if line else [shown]

    def _tell_more(self, call: Call, alert: Alert, happening: Happening, other: OtherHalf) -> list[ModuleResponse]:
        """Tell a resub, which knows more than the subscription that may have been told of the same renewal."""
        if not other.was_told:
            return self._tell(call, alert, happening)
        # The chat was thanked already.
        alert = replace(alert, chat_message="")
        if self._overlays.take_back(call.db, _source(call), session_id=other.session_id):
            call.invalidate(QUEUES, _source(call))
            return self._tell(call, alert, happening)
        return self._tell(call, replace(alert, image="", is_video=False, sound=""), happening) if happening.said else []

    def skip(self, call: Call) -> str:
        return "Skipped." if self._control(call, "skip") is not None else "Nothing is being shown."

    def pause(self, call: Call) -> str:
        self._control(call, "pause")
        return "Alerts wait until !alert resume."

    def resume(self, call: Call) -> str:
        self._control(call, "resume")
        return "Alerts are shown again."

    def replay(self, call: Call) -> str:
        try:
            self._overlays.replay(call.db, _source(call), item_id=None, by=call.user_name, only_alerts=True)
        except NothingToReplay:
            return "No alert was shown yet."
        call.invalidate(QUEUES, _source(call))
        return "The last alert comes again."

    def test(self, call: Call, event: str = "follow") -> str:
        """Show an event's alert with an example, marked TEST."""
        chosen = NICKNAMES.get(fold(event), fold(event))
        if chosen not in EVENTS:
            guess = closest(chosen, EVENTS)
            raise UsageError(
                f"There are alerts for {', '.join(EVENTS)}." + (f" Did you mean {guess}?" if guess else "")
            )
        happening = sample_for(default_for(chosen))
        known = self._alerts.alerts_of(call.db, call.community_id, chosen)
        alert = choose(known, happening, seed=call.payload.execution_id) or (known or [default_for(chosen)])[0]
        content = self._content.read(GENERAL, as_general(alert, sample_for(alert)))
        self._overlays.show_in(
            call.db,
            _source(call),
            content,
            item_id=f"test-{call.payload.execution_id}",
            session_id=call.payload.session_id,
            is_test=True,
        )
        call.invalidate(QUEUES, _source(call))
        return f"The {chosen} alert comes, marked TEST."

    def _control(self, call: Call, action: Control) -> int | None:
        call.invalidate(QUEUES, _source(call))
        return self._overlays.control(call.db, _source(call), action, by=call.user_name)


NICKNAMES = {"sub": "subscription", "gift": "subgift", "bits": "cheer", "tip": "donation", "join": "member_join"}


def _happening(call: Call) -> Happening:
    trigger = call.payload.trigger
    user = ANONYMOUS if trigger.data.get("is_anonymous") is True else call.user_name
    happening = Happening(
        trigger.message_type.value,
        user,
        call.payload.entity.platform,
        trigger.raw.strip(),
        trigger.data,
        labels=frozenset() if user == ANONYMOUS else frozenset(call.payload.user.labels),
    )
    return as_test(happening) if call.is_simulated else happening


def _as_resub(subscription: Happening, other: OtherHalf) -> Happening:
    return replace(subscription, event="resub", data=other.data)


def _source(call: Call) -> Source:
    return Source(call.community_id, GENERAL)
