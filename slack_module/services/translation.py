"""From Slack's words to the fleet's.

A message may say several things at once. Each becomes a delivery with an id of its own, so that each counts once, under
however many event ids Slack sends it: the words are a chat message, its files a `file_share`, naming the bot an
`app_mention`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints
from waddlebot.base.chat import parse_command
from waddlebot.base.contracts import WITHOUT_NULLS, Event, EventUser, IdPart, MessageType, OpaqueId, Wire
from waddlebot.collecting.event_store import Delivery, StoredEvent

from .people import NOBODY, People, Person
from .text import mentions, read_text, strip_mention

PLATFORM = "slack"
MAX_ID_CHARS = 255
MESSAGE, FILES, MENTION, SLASH = "message", "file_share", "app_mention", "slash_command"
EDITED = "message_changed"
# The kinds of message that somebody has written. The rest are Slack's notes, edits, and what bots say.
# A workspace's own, which have no character.
WORKSPACE_EMOJI = re.compile(r":(?=[^:\s]*[a-z])[\w'+-]+:")
WRITTEN = frozenset({"", "file_share", "thread_broadcast", "me_message"})

RequiredId = Annotated[IdPart, StringConstraints(min_length=1)]
Timestamp = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}\.[0-9]{1,9}$")]


class Authorization(Wire):
    team_id: str | None = None
    user_id: str = ""
    is_bot: bool = False


class EventCallback(Wire):
    """The envelope of the Events API, the same over HTTP and down a socket.

    Source: https://docs.slack.dev/apis/events-api/#callback-field
    """

    team_id: RequiredId
    event_id: OpaqueId
    event_time: int = Field(0, ge=0, lt=2**40)
    event: dict[str, Any]
    authorizations: Annotated[list[Authorization], WITHOUT_NULLS] = Field(default_factory=list)

    @property
    def team(self) -> str:
        """The workspace whose app is told: in a channel that two workspaces share, each is told for itself."""
        return next((each.team_id for each in self.authorizations if each.team_id), self.team_id)

    @property
    def bot_user_id(self) -> str:
        return next((each.user_id for each in self.authorizations if each.is_bot), "")

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.event_time, UTC)

    @property
    def type(self) -> str:
        return str(self.event.get("type", ""))[:MAX_ID_CHARS]


class Message(Wire):
    """`message` and `app_mention`."""

    channel: RequiredId
    user: str = ""
    text: str = ""
    ts: Timestamp
    thread_ts: str = ""
    subtype: str = ""
    bot_id: str | None = None
    files: Annotated[list[dict[str, Any]], WITHOUT_NULLS] = Field(default_factory=list)


class ReactedTo(Wire):
    type: str = ""
    channel: IdPart = ""
    ts: str = ""


class Reaction(Wire):
    user: RequiredId
    reaction: Annotated[str, StringConstraints(max_length=100)]
    item: ReactedTo
    item_user: str = ""


class Membership(Wire):
    user: RequiredId
    channel: RequiredId


class SlashForm(Wire):
    """What Slack posts for a slash command.

    Source: https://docs.slack.dev/interactivity/implementing-slash-commands
    """

    team_id: RequiredId
    channel_id: RequiredId
    user_id: RequiredId
    trigger_id: Annotated[OpaqueId, StringConstraints(max_length=100)]
    user_name: Annotated[str, StringConstraints(max_length=255)] = ""
    command: Annotated[str, StringConstraints(max_length=64)] = "/waddlebot"
    text: str = ""
    response_url: str = ""

    @property
    def event_id(self) -> str:
        return f"{self.team_id}:{self.channel_id}:{self.trigger_id}"

    @property
    def line(self) -> str:
        """The command as it would be written in chat. Alone it is a cry for help."""
        text = self.text.strip() or "help"
        return text if text.startswith(("!", "#")) else f"!{text}"

    def with_hash(self) -> SlashForm:
        """The same as a community's own command, unless a prefix was typed."""
        text = self.text.strip()
        return self if text.startswith(("!", "#")) else self.model_copy(update={"text": f"#{text}"})

    @property
    def word(self) -> str:
        command = parse_command(self.line)
        return command.command if command else ""


def read_deliveries(envelope: EventCallback, payload: dict[str, Any]) -> Iterator[Delivery]:
    """What an event's envelope brings. Raises: pydantic.ValidationError."""
    kept = {name: value for name, value in payload.items() if name != "token"}
    kind = envelope.type
    if kind in ("message", "app_mention"):
        yield from _read_message(envelope, kept)
    elif kind in ("reaction_added", "member_joined_channel", "member_left_channel"):
        yield _read_other(envelope, kept)
    else:
        yield ignored(envelope, kept, "type not handled")


def ignored(envelope: EventCallback, payload: dict[str, Any], why: str) -> Delivery:
    """A delivery that is kept and not acted upon."""
    channel = envelope.event.get("channel")
    return Delivery(
        delivery_id=envelope.event_id,
        event_id=envelope.event_id,
        type=envelope.type or "unknown",
        channel_id=channel[:MAX_ID_CHARS] if isinstance(channel, str) else "",
        person_id="",
        data=payload,
        occurred_at=envelope.at,
        ignored=why,
    )


def _read_message(envelope: EventCallback, payload: dict[str, Any]) -> Iterator[Delivery]:
    event = envelope.event
    if event.get("subtype") == EDITED and (changed := _changed(event)):
        message = Message.model_validate(changed)
        semantic = f"{envelope.team}:{message.channel}:{message.ts}:{event['message']['edited']['ts']}"
        why = _why_ignored(message, envelope.bot_user_id)
        yield _part(envelope, payload, message, EDITED, semantic[:MAX_ID_CHARS], "", why)
        return
    if event.get("subtype") not in (None, *WRITTEN):
        yield ignored(envelope, payload, f"subtype {str(event['subtype'])[:64]}")
        return
    message = Message.model_validate(event)
    semantic = f"{envelope.team}:{message.channel}:{message.ts}"
    why = _why_ignored(message, envelope.bot_user_id)
    if envelope.type == "app_mention":
        yield _part(envelope, payload, message, MENTION, f"{semantic}:mention", "", why)
        # Where the app is told of mentions and not of messages, these are its words.
        yield _part(envelope, payload, message, MESSAGE, semantic, ":message", why)
        return
    if message.text.strip() or not message.files:
        yield _part(envelope, payload, message, MESSAGE, semantic, "", why)
    if message.files:
        yield _part(envelope, payload, message, FILES, f"{semantic}:files", ":files", why)


def _changed(event: dict[str, Any]) -> dict[str, Any] | None:
    """A message whose text somebody changed, in the form of a new one. Of a link's preview Slack tells so too."""
    now, before = event.get("message"), event.get("previous_message")
    if not isinstance(now, dict) or not isinstance(now.get("edited"), dict) or not now["edited"].get("ts"):
        return None
    if not now.get("ts") or not now.get("user") or (isinstance(before, dict) and before.get("text") == now.get("text")):
        return None
    return {**now, "channel": event.get("channel")} if now.get("subtype") in (None, *WRITTEN) else None


def _part(
    envelope: EventCallback, payload: dict[str, Any], message: Message, type_: str, id_: str, suffix: str, why: str
) -> Delivery:
    return Delivery(
        delivery_id=envelope.event_id + suffix,
        event_id=id_,
        type=type_,
        channel_id=message.channel,
        person_id=message.user,
        data=payload,
        occurred_at=datetime.fromtimestamp(float(message.ts), UTC),
        ignored=why,
    )


def _why_ignored(message: Message, bot_user_id: str) -> str:
    if message.bot_id or message.user in (bot_user_id, "USLACKBOT"):
        return "said by a bot"
    return "" if message.user else "said by nobody"


def _read_other(envelope: EventCallback, payload: dict[str, Any]) -> Delivery:
    event, team = envelope.event, envelope.team
    if envelope.type == "reaction_added":
        reaction = Reaction.model_validate(event)
        channel, user = reaction.item.channel, reaction.user
        # Taken back and given again it is still the same.
        id_ = f"{team}:{channel}:{reaction.item.ts}:{reaction.reaction}:{user}"
        why = "" if channel else f"reaction to a {reaction.item.type[:64]}"
    else:
        membership = Membership.model_validate(event)
        channel, user, why = membership.channel, membership.user, ""
        # Whoever leaves and comes back has joined once, as far as points go.
        id_ = f"{team}:{channel}:{'join' if envelope.type == 'member_joined_channel' else 'leave'}:{user}"
    if user == envelope.bot_user_id:
        why = "done by a bot"
    return Delivery(
        delivery_id=envelope.event_id,
        event_id=id_[:MAX_ID_CHARS],
        type=envelope.type,
        channel_id=channel,
        person_id=user,
        data=payload,
        occurred_at=envelope.at,
        ignored=why,
    )


class Translator:
    """Makes the fleet's events of what is stored. With `people` it knows names and who administers a workspace."""

    def __init__(self, people: People | None = None) -> None:
        self._people = people

    def __call__(self, stored: StoredEvent) -> Event:
        """Raises: pydantic.ValidationError; TooLarge."""
        if stored.type == SLASH:
            return self._slash(stored)
        envelope = EventCallback.model_validate(stored.data)
        if stored.type in (MESSAGE, FILES, MENTION, EDITED):
            return self._message(stored, envelope)
        return self._other(stored, envelope)

    def _message(self, stored: StoredEvent, envelope: EventCallback) -> Event:
        is_edit = stored.type == EDITED
        message = Message.model_validate((_changed(envelope.event) if is_edit else None) or envelope.event)
        written = strip_mention(message.text, envelope.bot_user_id)
        is_command = stored.type == MESSAGE and parse_command(written) is not None
        kinds = {
            MESSAGE: MessageType.CHAT_MESSAGE,
            EDITED: MessageType.CHAT_MESSAGE,
            FILES: MessageType.FILE_SHARE,
            MENTION: MessageType.APP_MENTION,
        }
        data: dict[str, Any] = {"ts": message.ts, **({"edited": True} if is_edit else {})}
        if message.thread_ts:
            data["thread_ts"] = message.thread_ts
        if mentions(message.text, envelope.bot_user_id):
            data["mentions_bot"] = True
        if message.files:
            data["files"] = [_file(each) for each in message.files[:10]]
        user = self._user(envelope.team, message.user, wait=is_command)
        text = self._read(written, envelope.team, wait=is_command)
        if emotes := WORKSPACE_EMOJI.findall(text):
            data["emotes"] = emotes
        return self._event(
            stored,
            kinds[stored.type],
            envelope.team,
            message.channel,
            user,
            message=text,
            data=data,
        )

    def _other(self, stored: StoredEvent, envelope: EventCallback) -> Event:
        team = envelope.team
        if stored.type == "reaction_added":
            reaction = Reaction.model_validate(envelope.event)
            data = {"reaction": reaction.reaction, "message_ts": reaction.item.ts, "message_by": reaction.item_user}
            user = self._user(team, reaction.user)
            return self._event(stored, MessageType.REACTION, team, reaction.item.channel, user, data=data)
        membership = Membership.model_validate(envelope.event)
        has_joined = stored.type == "member_joined_channel"
        kind = MessageType.MEMBER_JOIN if has_joined else MessageType.MEMBER_LEAVE
        return self._event(stored, kind, team, membership.channel, self._user(team, membership.user))

    def _slash(self, stored: StoredEvent) -> Event:
        form = SlashForm.model_validate(stored.data)
        person = self._person(form.team_id, form.user_id, wait=True)
        return self._event(
            stored,
            MessageType.CHAT_MESSAGE,
            form.team_id,
            form.channel_id,
            EventUser(
                platform_user_id=form.user_id,
                name=person.name or form.user_name,
                display_name=person.display_name,
                badges=list(person.badges),
            ),
            message=self._read(form.line, form.team_id, wait=True),
            data={"slash_command": form.command},
        )

    @staticmethod
    def _event(
        stored: StoredEvent,
        kind: MessageType,
        team: str,
        channel: str,
        user: EventUser,
        *,
        message: str = "",
        data: dict[str, Any] | None = None,
    ) -> Event:
        return Event(
            event_id=stored.event_id,
            message_type=kind,
            platform=PLATFORM,
            server_id=team,
            channel_id=channel,
            user=user,
            message=message,
            data=data or {},
            occurred_at=stored.occurred_at,
        )

    def _user(self, team: str, user: str, *, wait: bool = False) -> EventUser:
        person = self._person(team, user, wait=wait)
        return EventUser(
            platform_user_id=user, name=person.name, display_name=person.display_name, badges=list(person.badges)
        )

    def _person(self, team: str, user: str, *, wait: bool) -> Person:
        return self._people.find(team, user, wait=wait) if self._people else NOBODY

    def _read(self, text: str, team: str, *, wait: bool) -> str:
        return read_text(text, lambda user: self._person(team, user, wait=wait).name or user)


def _file(file: dict[str, Any]) -> dict[str, str]:
    return {name: str(file[name])[:255] for name in ("id", "name", "mimetype") if file.get(name)}
