"""!community and !announce: words in, a line of chat out."""

from __future__ import annotations

from collections.abc import Callable

from pydal import DAL
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import Level
from waddlebot.base.errors import Invalid, NotConfigured, UpstreamError, UsageError, UserError
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import Right
from waddlebot.base.text import fold
from waddlebot.community.consent import Consenter, list_owned, move_channel, new_community
from waddlebot.community.people import MEMBERS, PEOPLE
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.call import Asked, Call, say
from waddlebot.module.outside import OutsideCall
from waddlebot.web.clients import RouterClient
from waddlebot.web.mail import Mail

from ..services import communities
from ..services.communities import MAX_NAME_CHARS, MAX_OWNED, About, Refused
from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.links import mask, read_address
from ..services.logins import LoginService, Made

ROLES = ("member", "subscriber", "vip", "moderator", "admin")
MAIL_SUBJECT = "Your login for WaddleBot"
FIRST_MAIL = """Hello,

{who} made a login for you in the portal of {community}.

  Where     {url}
  Address   {email}
  Password  {password}

The password holds for 24 hours, and you choose your own when you first sign in. If you do not know what this is about,
do nothing: nobody can sign in without this mail.
"""
ACCESS_MAIL = """Hello,

{who} lets you help to run {community}. Sign in as always:

  {url}
"""


class CommunityChat:
    """What changes core's tables runs in the command's transaction; roles and channels' settings are the router's, and
    asked for in the speaker's own name."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        fleet: FleetAPI,
        router: RouterClient,
        logins: LoginService,
        mail: Mail,
        log: AAALog,
        *,
        url: str,
    ) -> None:
        self._db = database
        self._bus = bus
        self._fleet = fleet
        self._router = router
        self._logins = logins
        self._mail = mail
        self._log = log
        self._url = url

    def create(self, call: Call, *name: str) -> str:
        wanted = " ".join(name).strip()
        if not wanted:
            raise UsageError("Usage: !community create <name>")
        if len(wanted) > MAX_NAME_CHARS:
            raise UsageError(f"A community's name has at most {MAX_NAME_CHARS} characters.")
        user = call.payload.user
        if len(list_owned(call.db, user.own_id)) >= MAX_OWNED:
            raise Refused(f"You own {MAX_OWNED} communities already.")
        person = Consenter(call.payload.entity.platform, user.platform_user_id, user.name, user.display_name)
        community_id = new_community(call.db, wanted, person, user.own_id)
        fetch(
            call.db,
            "INSERT INTO community_memberships (community_id, user_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (community_id, user.own_id),
        )
        communities.choose(call.db, user.own_id, community_id)
        call.invalidate(PEOPLE, user.own_id)
        return (
            f"{shorten(wanted, 60)} is yours. For an hour !community is about it: bring a channel of yours in with"
            " !community add entity <id>, or let the bot into a new one from the portal."
        )

    def list(self, call: Call) -> str:
        names = communities.list_of(call.db, call.payload.user.ids)
        if not names:
            return "You are in no community yet."
        shown = names[: communities.LISTED]
        return f"You are in {', '.join(shown)}{' and more' if len(names) > len(shown) else ''}."

    def info(self, call: Call, *name: str) -> str:
        if name:
            community_id, _ = communities.find_named(call.db, " ".join(name), call.payload.user.ids)
        else:
            community_id = self._about(call, call.db).id
        return communities.describe(call.db, community_id)

    def members(self, call: Call) -> str:
        return communities.team(call.db, self._about(call, call.db).id)

    def add(self, call: Call, what: str, *words: str) -> str:
        kind, text = fold(what), " ".join(words).strip()
        if kind not in ("entity", "user") or not text:
            raise UsageError("Usage: !community add entity <entity_id> | user <@who>")
        here = self._about(call, call.db)
        return self._add_channel(call, here, text) if kind == "entity" else self._add_person(call, here, text)

    def _add_channel(self, call: Call, here: About, text: str) -> str:
        here.check(Level.OWNER, "bring a channel in")
        try:
            entity = parse_entity_id(text)
        except Invalid as err:
            raise UsageError(f"{err.message} Such as twitch::12826.") from err
        row = fetch_one(call.db, "SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (str(entity),))
        owned = {each["id"] for own in call.payload.user.ids for each in list_owned(call.db, own)}
        if row is None or row["community_id"] not in owned:
            raise Refused(f"{shorten(text, 80)} is not a channel of a community that you own.")
        if row["community_id"] == here.id:
            return f"{entity} is in {here.name} already."
        move_channel(call.db, entity, here.id, user_id=call.payload.user.own_id)
        for cache in ("servers", "entities"):
            call.invalidate(cache, "*")
        return f"{entity} is in {here.name} from now on."

    def _add_person(self, call: Call, here: About, text: str) -> str:
        here.check(Level.MODERATOR, "make somebody a member")
        platform = call.payload.entity.platform
        own_id, name = communities.person_named(call.db, text, platform=platform, community_id=None)
        fetch(
            call.db,
            "INSERT INTO community_memberships (community_id, user_id) VALUES (%s, %s)"
            " ON CONFLICT (community_id, user_id) DO UPDATE SET is_active = true",
            (here.id, own_id),
        )
        call.invalidate(MEMBERS, "*")
        return f"{name} is a member of {here.name}."

    def context(self, call: Call, *name: str) -> str:
        wanted, user = " ".join(name).strip(), call.payload.user
        if not wanted:
            return f"Your !community is about {self._about(call, call.db).name}."
        if fold(wanted) == "off":
            communities.forget_choice(call.db, user.ids)
            return "Your !community is about where you say it."
        community_id, found = communities.find_named(call.db, wanted, user.ids)
        if not communities.is_member(call.db, user.ids, community_id):
            raise Refused(f"You are no member of {found}.")
        communities.choose(call.db, user.own_id, community_id)
        return f"For an hour your !community is about {found}."

    def leave(self, call: Call) -> str:
        here, ids = self._about(call, call.db), call.payload.user.ids
        if here.is_global:
            raise Refused("Everybody is in the global community.")
        if any(each["id"] == here.id for own in ids for each in list_owned(call.db, own)):
            raise Refused(f"You own {here.name}, and cannot leave it.")
        fetch(
            call.db,
            "UPDATE community_memberships SET is_active = false WHERE community_id = %s AND user_id = ANY(%s)",
            (here.id, list(ids)),
        )
        communities.forget_choice(call.db, ids)
        call.invalidate(MEMBERS, "*")
        return f"You left {here.name}. Whenever you speak in it you are back."

    def role(self, call: OutsideCall, who: str, role: str) -> str:
        wanted = fold(role)
        if wanted not in ROLES:
            raise UsageError(f"The roles are {', '.join(ROLES)}.")
        with call.reading() as db:
            here = self._about(call, db)
            here.check(Level.ADMIN if wanted != "admin" else Level.OWNER, f"make somebody {wanted}")
            platform = call.payload.entity.platform
            own_id, name = communities.person_named(db, who, platform=platform, community_id=here.id)
        body = {"community_id": here.id, "assignments": [{"user_id": own_id, "role": wanted}]}

        def give(_: float) -> None:
            right: Right = "owner" if here.level >= Level.OWNER else "editor"
            answer = self._fleet.ask_as(call.payload, here.id, right, "people", "POST", "/router/roles/assign", body)
            (result,) = answer["results"]
            if not result["success"]:
                raise UserError(result["error"]["message"])

        self._effect(call, f"make {name} {wanted}", give)
        return f"{name} is {wanted} in {here.name} from now on."

    def announce_here(self, call: OutsideCall, where: str) -> str:
        wanted = fold(where)
        if wanted not in ("here", "off"):
            raise UsageError("Usage: !community announce here|off")
        if call.level < Level.ADMIN:
            raise Refused("Only an admin or above may choose where announcements are said.")
        path = f"/router/entities/{quoted(call.entity_id)}/modules"

        def choose(_: float) -> None:
            community_id = call.community_id
            modules = self._fleet.ask_as(call.payload, community_id, "editor", "bot", "GET", path)["modules"]
            was = next((each["config"] for each in modules if each["module_name"] == "router"), None) or {}
            config = {**was, "announce": wanted == "here"}
            self._fleet.ask_as(call.payload, community_id, "editor", "bot", "PUT", f"{path}/router", {"config": config})

        self._effect(call, f"say announcements {wanted}", choose)
        return "Announcements are said here from now on." if wanted == "here" else "No announcements here any more."

    def announce(self, call: OutsideCall, *text: str) -> str:
        words = " ".join(text).strip()
        if not words:
            raise UsageError("Usage: !announce <text>")

        def tell(_: float) -> int:
            known = f"chat-{call.payload.execution_id}"
            said = self._router.announce(known, [say(f"📢 {words}", markup=True)], community_id=call.community_id)
            return len(said.outbox_ids)

        count: int = call.look_up("say it in every channel", tell, instead=0)
        return f"Said in {count} channel{'' if count == 1 else 's'}." if count else "No channel takes announcements."

    def portal(self, call: OutsideCall, *words: str) -> str:
        if [fold(each) for each in words[:2]] != ["login", "add"] or len(words) != 3:
            raise UsageError("Usage: !community portal login add <email>")
        self._take_back(call)
        try:
            email = read_address(words[2])
        except Invalid as err:
            raise UsageError(err.message) from err
        with call.reading() as db:
            here = self._about(call, db)
        here.check(Level.OWNER, "make logins for the portal")
        if not self._mail.is_possible:
            raise UserError("This fleet cannot send mail yet: whoever runs it has to set SMTP_HOST and FROM_EMAIL.")
        self._effect(call, "make the login and mail it", lambda _: self._make(call, here, email))
        return f"Mail is on its way to {mask(email)}. The password in it holds for 24 hours."

    def _make(self, call: OutsideCall, here: About, email: str) -> None:
        user = call.payload.user
        made = self._logins.add(email, community_id=here.id, own_id=user.own_id, ids=list(user.ids))
        try:
            self._mail.send(email, MAIL_SUBJECT, self._letter(call, here, made))
        except (UpstreamError, NotConfigured) as err:
            self._log.error("login_mail_not_sent", community=here.id, code=err.code)
            raise UserError(
                f"The login for {mask(email)} is made, but the mail server did not take the mail. Say it again later."
            ) from err

    def _letter(self, call: OutsideCall, here: About, made: Made) -> str:
        known = {"who": call.user_name, "community": here.name, "url": f"{self._url}/portal", "email": made.email}
        if made.password is None:
            return ACCESS_MAIL.format(**known)
        return FIRST_MAIL.format(**known, password=made.password)

    def _take_back(self, call: OutsideCall) -> None:
        """Have the message with the address deleted, where the bot may; whether it could be does not matter here."""
        platform = call.payload.entity.platform
        if call.is_simulated or platform not in ("twitch", "discord", "slack"):
            return
        with call.reading() as db:
            row = fetch_one(db, "SELECT event_id FROM router_events WHERE session_id = %s", (call.payload.session_id,))
        if row is None:
            return
        entity = call.payload.entity
        body = {"action": "delete", "message_id": row["event_id"], "reason": "It has an address in it"}
        if platform == "discord":
            body |= {"guild_id": entity.server_id, "channel_id": entity.channel_id}
        else:
            body |= {"entity_id": entity.entity_id, "platform_user_id": call.payload.user.platform_user_id}
        try:
            path = f"/{platform}/api/moderation"
            self._fleet.ask_as(call.payload, call.community_id, "editor", "people", "POST", path, body)
        except (UserError, UpstreamError, NotConfigured) as err:
            self._log.system("address_not_deleted", entity_id=entity.entity_id, code=err.code)

    def _effect(self, call: OutsideCall, what: str, do: Callable[[float], object]) -> None:
        try:
            call.effect(what, do, instead=None)
        except FleetRefused as err:
            raise UserError(err.message) from err

    @staticmethod
    def _about(call: Asked, db: DAL) -> About:
        return communities.about(db, call.payload.user.ids, call.community_id, call.level)
