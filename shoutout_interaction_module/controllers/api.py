"""Shoutouts over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed, EntityIdText, OpaqueId, Strict
from waddlebot.base.errors import Invalid, NotAllowed, UpstreamError
from waddlebot.base.ids import new_id, parse_entity_id
from waddlebot.base.module_settings import SettingSpec, defaults_of, fitting
from waddlebot.community.communities import Reference, community_of, get_community
from waddlebot.community.places import check_place, find_community_of
from waddlebot.data.database import Database, fetch_one
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.clients import FleetClient, RouterClient
from waddlebot.web.endpoint import RawRequest, endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.naming import Named, parse_named
from ..services.people_service import MODULE, Auto, Known, PersonSettings
from ..services.platform_shoutouts import PlatformShoutouts
from ..services.shoutout_service import Found, Occasion, Shoutout, ShoutoutService

T = TypeVar("T")
ASKED_WITHIN_S = 10.0
# Calls within the process need a thread other than the request's.
AT_ONCE = 4

Text = Annotated[str, StringConstraints(max_length=2000)]
User = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class SettingsQuery(Page):
    """Who something is set for: one person, or those on a list."""

    community_id: str | None = None
    user: User | None = None
    auto: Auto | None = None


class SettingsChange(Attributed):
    """What to set for a `user`: a name, `@name`, a link, `platform:id`, or `user:<our number>`; `clear` forgets all of
    it. Or `settings` for all of the community. What is left out stays as it is."""

    user: User | None = None
    community_id: Reference | None = None
    settings: dict[str, Any] | None = None
    message: Text | None = None
    links: list[Text] | None = Field(None, max_length=100)
    auto: Auto | None = None
    clear: bool = False


class HistoryQuery(Page):
    community_id: str | None = None
    user: User | None = None


class StatsQuery(Strict):
    community_id: str | None = None
    days: int | None = Field(None, ge=1, le=3650)


class SendRequest(Attributed):
    """Whom to shout out. Without a channel, `entity_id`, it is said where the community's announcements are. The same
    `request_id` again says nothing twice."""

    user: User
    community_id: Reference | None = None
    entity_id: EntityIdText | None = None
    request_id: OpaqueId | None = None


class ShoutoutDesk:
    """Does what chat does, for who is not in a chat."""

    def __init__(
        self,
        database: Database,
        shoutouts: ShoutoutService,
        platform: PlatformShoutouts,
        router: RouterClient,
        client: FleetClient,
        specs: Sequence[SettingSpec],
        *,
        router_url: str,
    ) -> None:
        self._database = database
        self._shoutouts = shoutouts
        self._platform = platform
        self._router = router
        self._client = client
        self._router_url = router_url
        self._specs = specs
        self._threads = ThreadPoolExecutor(AT_ONCE, "shoutout-send")

    def settings_of(self, db: DAL, community_id: int) -> Mapping[str, Any]:
        """What is set for the whole of a community, defaults filled in."""
        return {**defaults_of(self._specs), **fitting(self._specs, self._config_of(db, community_id))}

    @staticmethod
    def _config_of(db: DAL, community_id: int) -> dict[str, Any]:
        row = fetch_one(
            db,
            "SELECT config FROM module_switches WHERE community_id = %s AND module_name = %s AND entity_id IS NULL",
            (community_id, MODULE),
        )
        return dict(row["config"]) if row else {}

    def find(self, db: DAL, community_id: int, user: str) -> tuple[Named, Known | None]:
        named = parse_named(user, here="twitch")
        return named, self._shoutouts.people.find(db, community_id, named, here="twitch")

    def ids_of(self, db: DAL, community_id: int, user: str | None) -> tuple[int, ...] | None:
        """All numbers of somebody, of nobody if we do not know them; None if nobody is asked for."""
        if user is None:
            return None
        named, known = self.find(db, community_id, user)
        known = known or self._shoutouts.people.find(db, None, named, here="twitch")
        return known.ids if known else ()

    def set_person(self, community_id: int, user: str, change: SettingsChange) -> tuple[Known, PersonSettings]:
        people = self._shoutouts.people
        with self._database.transaction() as db:
            named, known = self.find(db, community_id, user)
        found = None if known else self._look_at(named, None, wants_clips=False)
        with self._database.transaction() as db:
            if known is None:
                assert found is not None
                known = people.meet(db, found.identity)
            if change.clear:
                people.clear(db, community_id, known)
            changes = change.model_dump(include={"message", "links", "auto"}, exclude_none=True)
            if changes:
                return known, people.set(db, community_id, known, **changes)
            return known, people.settings_of(db, community_id, known.ids)

    def set_for_all(self, community_id: int, changes: Mapping[str, Any], *, key: str) -> None:
        """Change settings of a community, at the router, who keeps every module's, with the caller's own key.

        Raises: Invalid; NotAllowed; UpstreamError.
        """
        with self._database.transaction() as db:
            config = {**self._config_of(db, community_id), **changes}
        url = f"{self._router_url}/communities/{community_id}/modules/{MODULE}"
        body, headers = json.dumps({"config": config}).encode(), {"X-API-Key": key}
        answer = self._elsewhere(
            lambda: self._client.request("PUT", url, body, timeout_s=ASKED_WITHIN_S, headers=headers)
        )
        if answer.status == 200:
            return
        kind = {422: Invalid, 403: NotAllowed}.get(answer.status, UpstreamError)
        raise kind(answer.json()["error"]["message"])

    def send(self, community_id: int, request: SendRequest) -> tuple[Found, Shoutout, list[int], str]:
        """Shout somebody out. Raises: UnknownPerson; NeedsTwitch; ProviderError; UpstreamError."""
        with self._database.transaction() as db:
            named, known = self.find(db, community_id, request.user)
            settings = self.settings_of(db, community_id)
        found = self._look_at(named, known, wants_clips=settings["clips"])
        request_id = f"{community_id}:{request.request_id or new_id()}"
        occasion = Occasion(community_id, "api", settings, request.entity_id or "", request_id=request_id)
        with self._database.transaction() as db:
            shoutout = self._shoutouts.write_down(db, found, occasion)
        announced = self._elsewhere(
            lambda: self._router.announce(
                f"shoutout-{request_id}",
                shoutout.responses,
                **({"entity_id": request.entity_id} if request.entity_id else {"community_id": community_id}),
            )
        )
        return found, shoutout, list(announced.outbox_ids), self._on_platform(found, settings, request)

    def _on_platform(self, found: Found, settings: Mapping[str, Any], request: SendRequest) -> str:
        place = parse_entity_id(request.entity_id) if request.entity_id else None
        if place is None or place.platform != "twitch" or not found.twitch_id or not settings["platform_shoutout"]:
            return "not_asked"
        return self._elsewhere(lambda: self._platform.send(place.channel_id, found.twitch_id, within_s=ASKED_WITHIN_S))

    def _look_at(self, named: Named, known: Known | None, *, wants_clips: bool) -> Found:
        return self._shoutouts.look_at(named, known, here="twitch", look_up=_ask_at_once, wants_clips=wants_clips)

    def _elsewhere(self, do: Callable[[], T]) -> T:
        return self._threads.submit(do).result()


def _ask_at_once(_what: str, ask: Callable[[float], T]) -> T:
    return ask(ASKED_WITHIN_S)


@endpoint("GET", "/shoutout/settings", caller=ADMINS_OR_API_USERS, area="bot", query=SettingsQuery)
def read_settings(
    query: SettingsQuery, caller: Account, db: DAL, shoutouts: ShoutoutService, desk: ShoutoutDesk
) -> dict[str, Any]:
    """List for whom something is set, and show what is set for all."""
    community_id = community_of(db, caller, query.community_id)
    ids = desk.ids_of(db, community_id, query.user)
    listed = shoutouts.people.list_set(db, community_id, query, auto=query.auto, ids=ids)
    return list_answer("people", listed, query, settings=desk.settings_of(db, community_id))


@endpoint("POST", "/shoutout/settings", caller=ADMINS_OR_API_USERS, area="bot", body=SettingsChange)
def change_settings(
    change: SettingsChange, caller: Account, database: Database, desk: ShoutoutDesk, request: RawRequest
) -> dict[str, Any]:
    """Set somebody's message, links, and whether they are shouted out by themselves, or forget all that; or change
    settings of the community, as PUT /router/communities/{community}/modules/shoutout does."""
    community_id = get_community(database, caller, change.community_id)
    if change.settings is not None:
        desk.set_for_all(community_id, change.settings, key=request.headers.get("x-api-key", ""))
        with database.transaction() as db:
            return {"success": True, "settings": desk.settings_of(db, community_id)}
    if change.user is None:
        raise Invalid("Say who it is for: user; or settings for all.", field="user")
    if not change.clear and change.message is None and change.links is None and change.auto is None:
        raise Invalid("Say what to set: message, links or auto; or clear.", field="message")
    known, person = desk.set_person(community_id, change.user, change)
    identity = known.on("twitch")
    return {
        "success": True,
        "person": {
            "own_id": known.own_id,
            "username": identity.shown_name,
            "platform": identity.platform,
            "platform_user_id": identity.platform_user_id,
            "message": person.message,
            "links": person.links,
            "auto": person.auto,
        },
    }


@endpoint("GET", "/shoutout/history", caller=ADMINS_OR_API_USERS, area="bot", query=HistoryQuery)
def read_history(
    query: HistoryQuery, caller: Account, db: DAL, shoutouts: ShoutoutService, desk: ShoutoutDesk
) -> dict[str, Any]:
    """List who was shouted out, newest first; of one person if they are named."""
    community_id = community_of(db, caller, query.community_id)
    ids = desk.ids_of(db, community_id, query.user)
    return list_answer("shoutouts", shoutouts.history.list_past(db, community_id, query, ids=ids), query)


@endpoint("GET", "/shoutout/stats", caller=ADMINS_OR_API_USERS, area="bot", query=StatsQuery)
def read_stats(query: StatsQuery, caller: Account, db: DAL, shoutouts: ShoutoutService) -> dict[str, Any]:
    """Count shoutouts, people, clips and causes, and say who was shouted out most; of the last `days` or of all."""
    community_id = community_of(db, caller, query.community_id)
    return {"success": True, "stats": shoutouts.history.stats(db, community_id, days=query.days)}


@endpoint("POST", "/shoutout/send", caller=ADMINS_OR_API_USERS, area="bot", body=SendRequest)
def send_shoutout(request: SendRequest, caller: Account, database: Database, desk: ShoutoutDesk) -> dict[str, Any]:
    """Shout somebody out now: a line of chat, and a clip or a picture on the stream."""
    community_id = get_community(database, caller, request.community_id)
    if request.entity_id:
        _check_channel(database, caller, request.entity_id, community_id)
    found, shoutout, outbox_ids, on_platform = desk.send(community_id, request)
    return {
        "success": True,
        "shoutout_id": shoutout.id,
        "duplicate": shoutout.id is None,
        "username": found.profile.name,
        "message": shoutout.line,
        "game": found.profile.game,
        "clip_id": shoutout.clip.id if shoutout.clip else None,
        "clip": shoutout.clip_state,
        "outbox_ids": outbox_ids,
        "platform_shoutout": on_platform,
    }


def _check_channel(database: Database, caller: Account, entity_id: str, community_id: int) -> None:
    """Raises: NotAllowed for a channel of another community."""
    entity = parse_entity_id(entity_id)
    check_place(database, caller, entity)
    with database.transaction() as db:
        if find_community_of(db, entity) != community_id:
            raise NotAllowed(f"{entity} is not a channel of that community.")
