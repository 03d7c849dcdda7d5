"""The wire types of the fleet. Outside testers go by these; a change here is a change of `contract_version`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from functools import cache
from operator import not_
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from .errors import TooLarge
from .ids import ID_PART, PLATFORM, parse_entity_id
from .module_settings import CredentialSpec, SettingSpec
from .wire import shaped

CONTROL = re.compile("[\x00-\x1f\x7f\ufffd]")
CONTRACT_VERSION = "1.0"
MAX_MESSAGE_CHARS = 40_000
MAX_BATCH = 100
MAX_METADATA_CHARS = 16_384
CONSOLE = "console"
# The account of the process that runs community modules.
MODULE_HOST = "module_host"
COMMAND_PREFIXES = ("!", "#")


class Level(IntEnum):
    """What a person may do in a community, lowest first."""

    MEMBER = 0
    SUBSCRIBER = 1
    VIP = 2
    MODERATOR = 3
    ADMIN = 4
    OWNER = 5

    @classmethod
    def named(cls, name: str) -> Level:
        return cls[name.upper()]

    @property
    def label(self) -> str:
        return self.name.lower()

    @property
    def one(self) -> str:
        """Somebody who has it, as in a sentence: `a moderator`."""
        return f"{'an' if self.label[0] in 'aeiou' else 'a'} {self.label}"

    @property
    def at_least(self) -> str:
        """Whoever has it or more: `a moderator or above`; above an owner is nobody."""
        return f"{self.one} or above" if self < max(Level) else self.one


LevelName = Literal["member", "subscriber", "vip", "moderator", "admin", "owner"]
# Contracts §2. A badge that is not listed gives no level.
BADGE_LEVELS: dict[str, dict[str, Level]] = {
    CONSOLE: {level.label: level for level in Level},
    "twitch": {
        "broadcaster": Level.OWNER,
        "moderator": Level.MODERATOR,
        "lead_moderator": Level.MODERATOR,
        "vip": Level.VIP,
        "subscriber": Level.SUBSCRIBER,
        "founder": Level.SUBSCRIBER,
    },
    "discord": {
        "owner": Level.OWNER,
        "administrator": Level.ADMIN,
        "manage_messages": Level.MODERATOR,
        "premium": Level.SUBSCRIBER,
    },
    "slack": {"owner": Level.OWNER, "admin": Level.ADMIN},
}
PLATFORMS = tuple(BADGE_LEVELS)
# The bits of Discord's permissions that are badges.
# Source: https://discord.com/developers/docs/topics/permissions#permissions-bitwise-permission-flags
DISCORD_PERMISSIONS = {"administrator": 1 << 3, "manage_messages": 1 << 13}
# Where something can be said to one person alone. The console is its reader's own.
PRIVATE_PLATFORMS = (CONSOLE, "discord", "slack")


def badge_level(platform: str, badges: list[str]) -> Level:
    """The highest level that a person's badges give them on that platform."""
    known = BADGE_LEVELS.get(platform, {})
    return max((known[badge.lower()] for badge in badges if badge.lower() in known), default=Level.MEMBER)


def discord_badges(permissions: int, *, is_owner: bool, is_premium: bool = False) -> tuple[str, ...]:
    """The badges that somebody's rights in a server of Discord are worth (contracts §2)."""
    named = [badge for badge, bit in DISCORD_PERMISSIONS.items() if permissions & bit]
    return tuple((["owner"] if is_owner else []) + named + (["premium"] if is_premium else []))


class MessageType(StrEnum):
    """What happened on a platform: the spec's 23 types, and a stream that begins or ends."""

    CHAT_MESSAGE = "chatMessage"
    SUBSCRIPTION = "subscription"
    FOLLOW = "follow"
    DONATION = "donation"
    CHEER = "cheer"
    RAID = "raid"
    HOST = "host"
    SUBGIFT = "subgift"
    RESUB = "resub"
    REACTION = "reaction"
    MEMBER_JOIN = "member_join"
    MEMBER_LEAVE = "member_leave"
    VOICE_JOIN = "voice_join"
    VOICE_LEAVE = "voice_leave"
    VOICE_TIME = "voice_time"
    BOOST = "boost"
    BAN = "ban"
    KICK = "kick"
    TIMEOUT = "timeout"
    WARN = "warn"
    FILE_SHARE = "file_share"
    APP_MENTION = "app_mention"
    CHANNEL_JOIN = "channel_join"
    STREAM_ONLINE = "stream_online"
    STREAM_OFFLINE = "stream_offline"


# Twitch may tell of one renewal as both, in either order: the second one comes when somebody shares it in chat.
RENEWALS: tuple[MessageType, ...] = (MessageType.SUBSCRIPTION, MessageType.RESUB)
RENEWED_WITHIN = timedelta(minutes=15)


class ExecutionStatus(StrEnum):
    """How a command ended, or that it has not."""

    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    DENIED = "denied"
    RATE_LIMITED = "rate_limited"
    PENDING = "pending"
    UNKNOWN = "unknown"


def _check_id(text: str) -> str:
    if not ID_PART.fullmatch(text):
        raise ValueError("must be at most 255 printable characters without spaces, ':' or '+'")
    return text


def _check_opaque(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def _check_message(text: str) -> str:
    if len(text) > MAX_MESSAGE_CHARS:
        raise TooLarge(f"message has {len(text)} characters; at most {MAX_MESSAGE_CHARS} are taken.", field="message")
    return text


def _check_metadata(data: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(data)) > MAX_METADATA_CHARS:
        raise ValueError(f"must be at most {MAX_METADATA_CHARS} characters of JSON")
    return data


def check_names(specs: list[SettingSpec]) -> list[SettingSpec]:
    if len({spec.name for spec in specs}) < len(specs):
        raise ValueError("two settings have one name")
    return specs


PlatformName = Annotated[str, shaped(f"^{PLATFORM.pattern}$", "the name of a platform, such as twitch")]
IdPart = Annotated[str, AfterValidator(_check_id)]
OpaqueId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_check_opaque)]
MessageText = Annotated[str, AfterValidator(_check_message)]
UserId = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Name = Annotated[str, StringConstraints(max_length=255)]
ModuleName = Annotated[str, shaped(r"^[a-z][a-z0-9_]{0,62}$", "a name of small letters, digits and _")]
EntityIdText = Annotated[str, AfterValidator(lambda text: str(parse_entity_id(text)))]
AliveFor = Annotated[float, Field(gt=0, le=1800, description="Without another sign of life it is dead after this, s.")]


def _without_nulls(entries: Any) -> Any:
    return [each for each in entries if each is not None] if isinstance(entries, list) else entries


# Of a platform's list: an entry that is null is none.
WITHOUT_NULLS = BeforeValidator(_without_nulls)


class Wire(BaseModel):
    """A message between services: unknown fields are ignored, so that replicas of two versions can talk, and null is
    an absent field wherever that has a default."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, said: Any) -> Any:
        if not isinstance(said, dict) or None not in said.values():
            return said
        required = _required_by(cls)
        return {name: value for name, value in said.items() if value is not None or name in required}


@cache
def _required_by(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if field.is_required())


class Strict(BaseModel):
    """An administrative request: an unknown field is refused, because it is most likely a typing error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Attributed(Strict):
    """An administrative request that may name whom it comes from. That is taken and decides nothing: key and actor do
    (contracts §4)."""

    user_id: Any = Field(None, exclude=True)
    installed_by: Any = Field(None, exclude=True)
    created_by: Any = Field(None, exclude=True)
    performed_by: Any = Field(None, exclude=True)


class EventUser(Wire):
    platform_user_id: OpaqueId
    name: Name = ""
    display_name: Name = ""
    badges: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default_factory=list, max_length=64)

    @property
    def shown_name(self) -> str:
        return self.display_name or self.name or self.platform_user_id


class Event(Wire):
    """Something that happened on a platform, as its collector reports it."""

    event_id: OpaqueId
    message_type: MessageType
    platform: PlatformName
    server_id: IdPart = ""
    channel_id: IdPart = ""
    user: EventUser
    message: MessageText = ""
    data: dict[str, Any] = Field(default_factory=dict)
    occurred_at: datetime | None = None
    mode: Literal["live", "simulate"] = "live"
    traceparent: Annotated[str, StringConstraints(max_length=64)] | None = None

    @property
    def entity_id(self) -> str:
        return f"{self.platform}:{self.server_id}:{self.channel_id}"

    @property
    def is_only_judged(self) -> bool:
        """Whether warn and block rules see it and nothing else comes of it: it was said before, or elsewhere."""
        return self.data.get("edited") is True or self.data.get("copy") is True

    @property
    def is_no_command(self) -> bool:
        """Whether it is plain chat however it begins: its prefix is another bot's there."""
        return self.data.get("no_command") is True


class ErrorInfo(Wire):
    code: str
    message: str
    details: dict[str, Any] | None = None


class ExecutionInfo(Wire):
    execution_id: str
    module_name: str
    command: str
    status: ExecutionStatus
    error: ErrorInfo | None = None


class ResponseInfo(Wire):
    """One row of the outbox, as the collector that asked sees it."""

    outbox_id: int | None
    execution_id: str | None
    ordinal: int
    module_name: str
    response_action: str
    response_data: dict[str, Any]


class Moderation(Wire):
    """What is to be done about a message and who wrote it. All but a warning takes the message away, too; `times` is
    how often that person has broken a rule that escalates."""

    action: Literal["warn", "block", "timeout", "ban"]
    rule_id: int
    message: str
    # Of a timeout.
    duration_s: int | None = None
    times: int | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value is not None}


class Answer(Wire):
    success: bool
    session_id: str | None
    duplicate: bool = False
    executions: list[ExecutionInfo] = Field(default_factory=list)
    responses: list[ResponseInfo] = Field(default_factory=list)
    moderation: Moderation | None = None
    error: ErrorInfo | None = None
    # Of the message, what no record may have; whoever sent it takes it out of its own.
    secrets: list[str] = Field(default_factory=list, exclude_if=not_)


class CallCommunity(Wire):
    id: int
    name: str


class CallEntity(Wire):
    entity_id: str
    platform: str
    server_id: str
    channel_id: str


class CallUser(Wire):
    """Who asked. `id` speaks for all of a person's accounts, `own_id` is this account's, `ids` are all of them.

    A module stores `own_id` with what it keeps about a person, reads by `ids` and counts limits by `id`.
    """

    id: int
    own_id: int = 0
    ids: list[int] = Field(default_factory=list)
    platform_user_id: str
    name: str
    display_name: str
    level: str
    roles: list[str] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _of_one_account(cls, data: Any) -> Any:
        """Who names one number only is one account."""
        if isinstance(data, dict) and "id" in data:
            return {"own_id": data["id"], "ids": [data["id"]], **data}
        return data


class Trigger(Wire):
    """Why a module is called. For an event `command` is the name that the module registered for it."""

    type: Literal["command", "event"]
    command: str
    prefix: str = ""
    args: list[str] = Field(default_factory=list)
    raw: str = ""
    message_type: MessageType = MessageType.CHAT_MESSAGE
    data: dict[str, Any] = Field(default_factory=dict)


class Callback(Wire):
    """Where a community module remembers things and answers late. The token is for this one call, and is worth nothing
    five minutes after its deadline."""

    token: str
    responses_url: str
    state_url: str


class ModuleCall(Wire):
    """Everything a module needs to answer; it never calls back to ask who it is talking to."""

    session_id: str
    execution_id: str
    community: CallCommunity
    entity: CallEntity
    user: CallUser
    trigger: Trigger
    mode: Literal["live", "simulate"] = "live"
    # What the community set for the module, defaults filled in; never a secret.
    settings: dict[str, Any] = Field(default_factory=dict)
    # Of modules that are not core's.
    callback: Callback | None = None
    deadline: datetime
    timeout_ms: int
    traceparent: str


class ChatData(Wire):
    message: Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE_CHARS)]
    reply: bool = False
    # For whoever caused it and nobody else; refused where that cannot be.
    private: bool = False
    # Whether the message has markup of its platform's: true where what people said in it is escaped already, false
    # where nothing of it is markup. Not said: what people said is escaped, which is their names, the words of the call
    # and these; the rest is markup. Neither goes further than the router.
    markup: bool | None = None
    said: Annotated[list[str], Field(max_length=20)] = Field(default_factory=list)


class MediaData(Wire):
    """What an overlay shows or plays. What has the `track_id` of something that is there already updates it."""

    media_type: Literal["music", "video", "image", "clip"]
    media_url: str = ""
    title: str = ""
    artist: str = ""
    album: str = ""
    artwork_url: str = ""
    service: str = ""
    progress_ms: int = Field(0, ge=0)
    duration_ms: int = Field(0, ge=0)
    is_playing: bool = True
    requested_by: str = ""
    track_id: Annotated[str, StringConstraints(max_length=64)] = ""
    # What plays it on the page itself: `youtube` takes the link in media_url. A track that had one and is sent with
    # `none` is taken away.
    player: Literal["none", "youtube"] = "none"
    volume: int = Field(100, ge=0, le=100)
    muted: bool = False
    # As DEFAULT_MEDIA_DURATION says, if it is not said here.
    display_s: float | None = Field(None, ge=0)


PlaybackState = Literal["started", "paused", "ended", "failed", "no_page"]


class Playback(Wire):
    """What became of a track on a community's overlay, as the page that plays it says. `no_page`: none does."""

    item_id: OpaqueId
    track_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    state: PlaybackState
    position_ms: int = Field(0, ge=0)
    # The player's error.
    code: int = 0


class TickerData(Wire):
    text: Annotated[str, StringConstraints(min_length=1)]
    priority: int = Field(5, ge=1, le=9)
    style: Literal["default", "info", "success", "warning", "urgent"] = "default"
    # As DEFAULT_TICKER_DURATION says, if it is not said here.
    display_s: float | None = Field(None, ge=0)


AlertAnimation = Literal["fade", "slide", "drop", "zoom", "bounce", "none"]
AlertPosition = Literal[
    "", "top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right"
]
# As CSS has it: #rgb, #rrggbb, with or without transparency.
Colour = Annotated[str, shaped(r"^(#([0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8}))?$", "a colour such as #7c2df0")]


class AlertLook(Wire):
    """How an alert looks and sounds, and whom it is about."""

    event: Annotated[str, StringConstraints(max_length=32)] = ""
    # Whose alert it is; what of title or text is this name is made to stand out.
    name: Annotated[str, StringConstraints(max_length=255)] = ""
    # What that person said with it.
    message: Annotated[str, StringConstraints(max_length=500)] = ""
    # A picture, GIF or video, and a sound: what was uploaded, or from a host of MEDIA_HOSTS.
    image: Annotated[str, StringConstraints(max_length=2000)] = ""
    is_video: bool = False
    sound: Annotated[str, StringConstraints(max_length=2000)] = ""
    volume: int = Field(50, ge=0, le=100)
    accent: Colour = ""
    animation: AlertAnimation = "zoom"
    position: AlertPosition = ""


class GeneralData(Wire):
    kind: Literal["html", "announcement", "alert"] = "announcement"
    title: str = ""
    text: str = ""
    html: str = ""
    alert: AlertLook | None = None
    display_s: float = Field(0, ge=0)


class FormField(Wire):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    type: Literal[
        "text", "textarea", "select", "multiselect", "radio", "checkbox", "number", "email", "url", "date", "time"
    ]
    label: str = ""
    required: bool = False
    options: list[str] = Field(default_factory=list)


class FormData(Wire):
    form_title: str
    form_description: str = ""
    form_fields: list[FormField]
    form_submit_url: str
    form_submit_method: Literal["POST", "PUT"] = "POST"
    form_callback_url: str = ""
    display_s: float = Field(0, ge=0)


class CommandData(Wire):
    """Another command to run for the same caller, at the caller's own level."""

    prefix: Literal["!", "#"] = "!"
    command: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    args: list[str] = Field(default_factory=list)


RESPONSE_DATA: dict[str, type[Wire]] = {
    "chat": ChatData,
    "media": MediaData,
    "ticker": TickerData,
    "general": GeneralData,
    "form": FormData,
    "command": CommandData,
}
OVERLAY_SOURCES = {"media": "media", "ticker": "ticker", "general": "general", "form": "general"}


class ModuleResponse(Wire):
    response_action: Literal["chat", "media", "ticker", "general", "form", "command"]
    response_data: dict[str, Any]

    @property
    def is_private(self) -> bool:
        return self.response_action == "chat" and self.response_data.get("private") is True


class ModuleReply(Wire):
    """What a module answers, at once or late. One response may stand at the top instead of in the list."""

    session_id: OpaqueId
    execution_id: OpaqueId
    module_name: ModuleName
    success: bool
    processing_time_ms: float = Field(0, ge=0, allow_inf_nan=False)
    error_message: str | None = None
    # "Not yet": the reply comes to /router/responses within so many seconds.
    later_s: float | None = Field(None, gt=0, le=900)
    # Something was begun whose end nobody knows, so nobody does it again.
    is_unknown: bool = False
    responses: list[ModuleResponse] = Field(default_factory=list, max_length=20)
    response_action: Literal["chat", "media", "ticker", "general", "form", "command"] | None = None
    response_data: dict[str, Any] | None = None

    def all_responses(self) -> list[ModuleResponse]:
        """The responses in order, their data validated and completed with defaults.

        Raises: pydantic.ValidationError.
        """
        single = (
            [ModuleResponse(response_action=self.response_action, response_data=self.response_data or {})]
            if self.response_action
            else []
        )
        return [
            ModuleResponse(
                response_action=each.response_action,
                response_data=RESPONSE_DATA[each.response_action].model_validate(each.response_data).model_dump(),
            )
            for each in [*self.responses, *single]
        ]


SpecT = TypeVar("SpecT", bound="SubcommandSpec | CommandSpec")
# Arguments of a usage that are for the module alone and for no record: `secret = ["key"]` of `set <key>`.
SecretArguments = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=64)]], Field(max_length=10, exclude_if=not_)
]


def check_secrets(spec: SpecT) -> SpecT:
    """Raises: ValueError for one that the usage does not have."""
    for each in spec.secret:
        if not {f"<{each}>", f"[{each}]"} & {*spec.usage.split()}:
            raise ValueError(f"secret names {each!r}, but the usage has no word <{each}> or [{each}]")
    return spec


class SubcommandSpec(Wire):
    """One form of a command: `!inventory add …`. The router enforces its level and shows its usage."""

    name: Annotated[str, StringConstraints(max_length=64)]
    usage: str = ""
    description: str = ""
    level: LevelName = "member"
    secret: SecretArguments = Field(default_factory=list)

    _check_secrets = model_validator(mode="after")(check_secrets)


class PatternSetting(Wire):
    """Patterns that each community may choose: what its switch of the module says in `config`, else the default. A list
    stands for as many listeners. `on` names a setting that must be true there; without it they count everywhere."""

    setting: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    default: str | list[str] = Field(default_factory=list)
    on: Annotated[str, StringConstraints(max_length=64)] = ""


class EventSetting(Wire):
    """Which of a command's `event_types` count is each community's to say: `on` names a setting that must be true
    there, `types` one that lists them. Where nothing is set the defaults hold; what is not named does not matter."""

    on: Annotated[str, StringConstraints(max_length=64)] = ""
    on_default: bool = True
    types: Annotated[str, StringConstraints(max_length=64)] = ""
    types_default: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default_factory=list, max_length=64)

    def wants(self, message_type: MessageType, config: Mapping[str, Any]) -> bool:
        """Whether an event counts where these settings hold."""
        is_on, types = config.get(self.on), config.get(self.types)
        if self.on and (self.on_default if is_on is None else is_on) is not True:
            return False
        return not self.types or message_type.value in (self.types_default if types is None else types)


class Listener(Wire):
    """What a module wants to hear of plain chat. `mention` is the bot's own name and has no pattern."""

    match: Literal["ends_with", "contains", "word", "regex", "mention"]
    pattern: str | PatternSetting = ""


class CommandSpec(Wire):
    command: Annotated[
        str, shaped(r"^[^\s!#\"]+$", "one word, without !, # and quotation marks", min_length=1, max_length=64)
    ]
    prefix: Literal["!", "#"] = "!"
    description: str = ""
    usage: str = ""
    level: LevelName = "member"
    scope: Literal["entity", "community"] = "entity"
    type: Literal["container", "lambda", "openwhisk", "webhook", "local"] = "container"
    location_url: str = ""
    method: Literal["POST"] = "POST"
    timeout: float = Field(30, gt=0, le=900)
    headers: dict[str, str] = Field(default_factory=dict)
    rate_limit: int | None = Field(None, ge=0)
    trigger_type: Literal["command", "event", "both"] = "command"
    event_types: list[MessageType] = Field(default_factory=list)
    events: EventSetting | None = None
    listen: list[Listener] = Field(default_factory=list, max_length=20)
    priority: int = 100
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    subcommands: list[SubcommandSpec] = Field(default_factory=list)
    # Modules that name the same group here take this command in turns: the router's setting of that name says who.
    shared: Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]{0,62})?$")] = ""
    secret: SecretArguments = Field(default_factory=list)

    _check_secrets = model_validator(mode="after")(check_secrets)


class ModuleRegistration(Wire):
    module_name: ModuleName
    module_version: Annotated[str, StringConstraints(max_length=32)]
    platform: PlatformName | None = None
    endpoint_url: Annotated[str, StringConstraints(max_length=2048)]
    health_check_url: Annotated[str, StringConstraints(max_length=2048)] = ""
    commands: list[CommandSpec] = Field(default_factory=list, max_length=200)
    # Asks for another secret for the module's webhooks; the one that it had is worth nothing from then on.
    rotate_webhook_secret: bool = False
    # The commands that write nothing, each with its subcommand; `*` is an alias. They are asked for in batches.
    reads: list[Annotated[str, StringConstraints(max_length=129)]] = Field(default_factory=list, max_length=1000)
    # None: the module takes any config, and looks after it itself.
    settings: Annotated[list[SettingSpec], Field(max_length=100), AfterValidator(check_names)] | None = None
    credentials: list[CredentialSpec] = Field(default_factory=list, max_length=20)


class VersionRegistration(Strict):
    """The commands of one version of a community module, for good, and what it may answer with."""

    commands: list[CommandSpec] = Field(max_length=30)
    permissions: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default_factory=list, max_length=20)
    settings: Annotated[list[SettingSpec], Field(max_length=50), AfterValidator(check_names)] = Field(
        default_factory=list
    )
    rotate_webhook_secret: bool = False


class Announcement(Strict):
    """What a module says without being asked: in the channels of a community, or to its owner alone."""

    announcement_id: OpaqueId
    # The caller's own, if it says so at all.
    module_name: ModuleName | None = None
    community_id: int | Annotated[str, StringConstraints(max_length=255)] | None = None
    entity_id: EntityIdText | None = None
    responses: list[ModuleResponse] = Field(min_length=1, max_length=20)
    to: Literal["channels", "owner"] = "channels"


class Announced(Wire):
    success: bool
    announcement_id: str
    duplicate: bool
    outbox_ids: list[int] = Field(default_factory=list)


class Heartbeat(Wire):
    module_name: ModuleName
    status: Annotated[str, StringConstraints(max_length=32)] = "healthy"
    # The communities in which the module is at work just now, such as playing music. None: as it was.
    active_in: Annotated[list[UserId], Field(max_length=10_000)] | None = None


class ContainerRequest(Wire):
    """What a collector's container asks. Without a platform it is the one that the container claimed on."""

    container_id: OpaqueId
    platform: PlatformName | None = None


class ClaimRequest(Wire):
    container_id: OpaqueId
    platform: PlatformName
    max_claims: int | None = Field(None, ge=0, le=100_000)
    alive_for_s: AliveFor | None = None
    kind: Literal["channel", "shard"] | None = Field(
        None, description="Twitch only: its channels unless it is `shard`, those of a conduit."
    )


class ReleaseRequest(ContainerRequest):
    """Everything goes unless some are named."""

    entity_ids: list[EntityIdText] | None = None


class ContainerHeartbeat(ContainerRequest):
    extend_claims: bool = True
    alive_for_s: AliveFor | None = None


class EntityReport(Wire):
    """The epoch, where it is given, must still be the entity's."""

    container_id: OpaqueId
    entity_id: EntityIdText
    epoch: int | None = None


class StatusReport(EntityReport):
    is_live: bool | None = None
    viewer_count: int | None = Field(None, ge=0, le=2**31 - 1)
    metadata: Annotated[dict[str, Any], AfterValidator(_check_metadata)] | None = None
    has_activity: bool = False


class ErrorReport(EntityReport):
    error_message: str = ""


class PopulateRequest(Wire):
    platform: PlatformName
    shard_count: int | None = Field(None, ge=1, le=10_000)


class ClaimedEntity(Wire):
    """What a container holds. `(entity_id, epoch)` names this one holding and no other."""

    entity_id: str
    platform: str
    server_id: str
    channel_id: str
    epoch: int
    status: str
    is_live: bool
    viewer_count: int
    priority: int
    last_activity: datetime | None
    claim_expires: datetime | None
    metadata: dict[str, Any]
    config: dict[str, Any]


class OutboxState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    DROPPED = "dropped"
    UNKNOWN = "unknown"
