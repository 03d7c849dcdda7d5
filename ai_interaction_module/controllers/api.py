"""The AI over HTTP: in OpenAI's words for their clients, and what is set for it."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, StringConstraints, field_validator, model_validator
from waddlebot.base.contracts import Attributed, Strict, Wire
from waddlebot.base.errors import NotAllowed, NotFound, Refused, WaddleBotError
from waddlebot.base.ids import new_id
from waddlebot.community.communities import Reference, get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANYBODY, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.stream import Stream, sse

from ..services import prompts
from ..services.ai_service import AIService
from ..services.asking import Answer, Asked, Gathered, Message, Piece, Role, Usage
from ..services.fitting import Fitted
from ..services.gate import TooManyAsk
from ..services.ledger import Budget, Ledger, Payer
from ..services.profiles import Profile, Profiles
from ..services.router_service import RouterService
from .doors import at_both_doors
from .health import AIHealth
from .streaming import AnswerStreams

MAX_MESSAGES, MAX_CHARS = 200, 200_000
MAX_TOKENS = 32_000
# Answers that are waited for in a thread; streams need none. There must be threads left for everything else.
WAITING_AT_ONCE = 16
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Names that stand for whatever is set here, for clients that have to send one.
ANY_MODEL = ("", "default", "waddlebot")
ShortText = Annotated[str, StringConstraints(max_length=255)]


class NoSuchModel(NotFound):
    """There is no such model."""

    code = "model_not_found"


class CommunityQuery(Strict):
    """A key of a community need not name it; an admin's without one asks for none."""

    community_id: ShortText | None = None


class UsageQuery(CommunityQuery):
    days: int = Field(30, ge=1, le=366)


class ChatMessage(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    # A text, or parts of which only texts are taken.
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content or ())

    @field_validator("content")
    @classmethod
    def _has_only_texts(cls, content: Any) -> Any:
        if isinstance(content, list) and any(part.get("type") != "text" for part in content):
            raise ValueError("only texts are taken, no pictures or sounds")
        return content


class StreamOptions(Wire):
    include_usage: bool = False


class ChatCompletion(Wire):
    """As OpenAI has it. What would change the answer and is not served is refused, the rest ignored."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    # As in the query; for clients that can add to the body only.
    community_id: Reference | None = None
    model: ShortText = ""
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )
    stop: ShortText | Annotated[list[ShortText], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    n: int = Field(1, ge=1, le=1)
    tools: list[Any] = Field(default_factory=list, max_length=0)
    functions: list[Any] = Field(default_factory=list, max_length=0)
    response_format: dict[str, Any] = Field(default_factory=lambda: {"type": "text"})

    @model_validator(mode="after")
    def _is_served(self) -> ChatCompletion:
        if self.response_format.get("type") != "text":
            raise ValueError("response_format: only text is served")
        if sum(len(each.text) for each in self.messages) > MAX_CHARS:
            raise ValueError(f"messages: at most {MAX_CHARS} characters together")
        return self


class Generate(Attributed):
    """`platform` is where it is to be said; the answer fits it."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=prompts.MAX_QUESTION_CHARS)]
    community_id: Reference | None = None
    platform: ShortText = ""
    model: ShortText = ""
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)


class ConfigChange(Attributed):
    """What is named is set, null lets the default hold again: in a community, or by an admin for all of them."""

    community_id: Reference | None = None
    provider: str | None = None
    failover: list[str] | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    system_prompt: str | None = None
    response_prefix: str | None = None
    answer_questions: bool | None = None
    question_triggers: list[str] | None = None
    event_responses: bool | None = None
    event_types: list[str] | None = None
    context_enabled: bool | None = None
    context_limit: int | None = None
    daily_tokens: int | None = None
    daily_tokens_person: int | None = None
    ignored_people: list[str] | None = None
    # The same in an object, as the router's settings have it.
    config: dict[str, Any] | None = None

    @property
    def changes(self) -> dict[str, Any]:
        named = self.model_fields_set - {"community_id", "config", *Attributed.model_fields}
        return {**{name: getattr(self, name) for name in sorted(named)}, **(self.config or {})}


class Desk:
    """What the endpoints share: for whom somebody asks, and how many may wait for an answer at once."""

    def __init__(self, database: Database, ai: AIService, profiles: Profiles) -> None:
        self._database = database
        self._ai = ai
        self._profiles = profiles
        self._places = threading.BoundedSemaphore(WAITING_AT_ONCE)

    def community_of(self, caller: Account, reference: int | str | None) -> int | None:
        if reference is None and caller.community_id is None:
            return None
        return get_community(self._database, caller, reference)

    def profile_of(self, community_id: int | None) -> Profile:
        own = self._ai.has_own_key(community_id)
        return self._profiles.of_community(community_id, has_own_key=own).profile

    def wait(self, asked: Asked, payer: Payer, order: Sequence[str]) -> Answer:
        """Raises: TooManyAsk; as AIService.answer."""
        if not self._places.acquire(blocking=False):
            raise TooManyAsk()
        try:
            return self._ai.answer(asked, payer, order)
        except Refused as err:
            if err.status == NotFound.http_status:
                raise NoSuchModel(f"{err.message} Asked for: {asked.model or 'the default'}.") from err
            raise
        finally:
            self._places.release()


@at_both_doors(
    "POST",
    "/chat/completions",
    caller=ADMINS_OR_API_USERS,
    area="bot",
    body=ChatCompletion,
    query=CommunityQuery,
    only_asks=True,
)
def complete_chat(
    request: ChatCompletion, query: CommunityQuery, caller: Account, desk: Desk, ai: AIService, streams: AnswerStreams
) -> Any:
    """Answer a conversation, as OpenAI does: at once, or with `stream` as it is written."""
    named = query.community_id if query.community_id is not None else request.community_id
    community_id = desk.community_of(caller, named)
    profile = desk.profile_of(community_id)
    asked = _as_asked(request, profile)
    payer = _payer(community_id, profile)
    order = ai.order_for(asked.model, community_id, profile.order) if asked.model else profile.order
    if not request.stream:
        return _completion(desk.wait(asked, payer, order))
    ai.check(payer, order)
    pieces = streams.pieces(lambda: ai.stream(asked, payer, order))
    return Stream(_chunks(pieces, asked, request.stream_options), f"account {caller.id}")


@at_both_doors("POST", "/generate", caller=ADMINS_OR_API_USERS, area="bot", body=Generate, only_asks=True)
def generate(request: Generate, caller: Account, desk: Desk, ai: AIService) -> dict[str, Any]:
    """Answer one question as the bot would in chat, with the community's own prompt."""
    community_id = desk.community_of(caller, request.community_id)
    profile = desk.profile_of(community_id)
    platform = request.platform or "a website"
    asked = prompts.for_question(profile, request.prompt, user_name=caller.name, platform=platform)
    asked = _with(asked, request.model, request.temperature, request.max_tokens)
    order = ai.order_for(asked.model, community_id, profile.order) if asked.model else profile.order
    answer = desk.wait(asked, _payer(community_id, profile), order)
    text = Fitted.on(request.platform).fit(answer.text)
    return {
        "success": True,
        "prompt": request.prompt,
        "generated_text": text,
        "metadata": {
            "provider": answer.provider,
            "model": answer.model,
            "finish_reason": answer.finish_reason,
            "usage": _usage(answer.usage),
        },
    }


@at_both_doors("GET", "/models", caller=ADMINS_OR_API_USERS, area="bot", query=CommunityQuery)
def list_models(query: CommunityQuery, caller: Account, desk: Desk, ai: AIService) -> dict[str, Any]:
    """List the models that may be asked for, as OpenAI does; the first one is who answers by itself."""
    community_id = desk.community_of(caller, query.community_id)
    profile = desk.profile_of(community_id)
    found = ai.list_models(community_id, profile.order)
    names = dict.fromkeys([*([(profile.order[0], profile.model)] if profile.model and profile.order else []), *found])
    data = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for owner, name in names]
    return {"object": "list", "data": data}


@at_both_doors("GET", "/providers", caller=ADMINS_OR_API_USERS, area="bot", query=CommunityQuery)
def list_providers(query: CommunityQuery, caller: Account, desk: Desk, ai: AIService) -> dict[str, Any]:
    """List the providers in the order in which they are asked: each one's state, last error and breaker."""
    community_id = desk.community_of(caller, query.community_id)
    return {"success": True, "providers": ai.states(community_id, desk.profile_of(community_id).order)}


@at_both_doors("GET", "/usage", caller=ADMINS_OR_API_USERS, area="bot", query=UsageQuery)
def read_usage(query: UsageQuery, caller: Account, desk: Desk, database: Database, ledger: Ledger) -> dict[str, Any]:
    """Show what was spent by day, provider, model and why, and today's budget."""
    community_id = desk.community_of(caller, query.community_id)
    profile = desk.profile_of(community_id)
    with database.reading() as db:
        spent = ledger.spent_today(db, community_id, [])
        days = ledger.list_days(db, community_id, days=query.days)
    budget = None if community_id is None else profile.daily_tokens
    return {"success": True, "community_id": community_id, "today": spent.community, "budget": budget, "days": days}


@at_both_doors("GET", "/config", caller=ADMINS_OR_API_USERS, area="settings", query=CommunityQuery)
def read_config(
    query: CommunityQuery, caller: Account, desk: Desk, ai: AIService, profiles: Profiles
) -> dict[str, Any]:
    """Show what holds in a community, or without one in the fleet, and by whose word. No keys."""
    return _config(desk.community_of(caller, query.community_id), ai, profiles)


@at_both_doors("PUT", "/config", caller=ADMINS_OR_API_USERS, area="settings", body=ConfigChange, query=CommunityQuery)
def change_config(
    change: ConfigChange,
    query: CommunityQuery,
    caller: Account,
    desk: Desk,
    ai: AIService,
    profiles: Profiles,
    router: RouterService,
) -> dict[str, Any]:
    """Change what is named; it holds in all replicas when this answers, or a moment after."""
    reference = change.community_id if change.community_id is not None else query.community_id
    community_id = desk.community_of(caller, reference)
    changes = change.changes
    profiles.check(changes)
    if community_id is not None:
        router.change_settings(community_id, changes)
    elif not caller.is_admin:
        raise NotAllowed("Only an admin changes what holds in all communities.")
    else:
        profiles.change_fleet(changes)
    return _config(community_id, ai, profiles)


@endpoint("GET", "/api/ai/v1/health", caller=ANYBODY)
def read_health(health: AIHealth) -> dict[str, Any]:
    """Say whether somebody answers. Always 200."""
    return health.read()


def _as_asked(request: ChatCompletion, profile: Profile) -> Asked:
    """A conversation as it was sent: whoever sends it says what stands at its beginning."""
    messages = tuple(Message(ROLES[each.role], each.text) for each in request.messages)
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    asked = Asked(messages, profile.max_tokens, profile.temperature, profile.model, stop)
    return _with(asked, request.model, request.temperature, request.max_tokens)


def _with(asked: Asked, model: str, temperature: float | None, max_tokens: int | None) -> Asked:
    return Asked(
        asked.messages,
        max_tokens or asked.max_tokens,
        asked.temperature if temperature is None else temperature,
        asked.model if model.lower() in ANY_MODEL else model,
        asked.stop,
        asked.user_name,
    )


def _payer(community_id: int | None, profile: Profile) -> Payer:
    budget = Budget(None, None) if community_id is None else profile.budget
    return Payer(community_id, "api", budget)


def _completion(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return {
        "id": f"chatcmpl-{new_id()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.model,
        "choices": [choice],
        "usage": _usage(answer.usage),
        "system_fingerprint": answer.provider,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """`estimated` says that the provider did not count; OpenAI's clients ignore it."""
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**counts, "total_tokens": usage.total, "estimated": usage.is_estimated}


async def _chunks(
    pieces: AsyncGenerator[Piece | WaddleBotError, None], asked: Asked, options: StreamOptions
) -> AsyncGenerator[str, None]:
    """OpenAI's events. An error is one too, because the head was sent; their client raises it."""
    gathered = Gathered(asked)
    head = {"id": f"chatcmpl-{new_id()}", "object": "chat.completion.chunk", "created": int(time.time())}

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse({**head, "model": gathered.model or asked.model or "default", "choices": [choice]})

    is_first = True
    try:
        async for piece in pieces:
            if isinstance(piece, WaddleBotError):
                yield sse({"error": {"message": piece.message, "code": piece.code, "type": "provider_error"}})
                return
            gathered.add(piece)
            if piece.text:
                yield chunk({"role": "assistant", "content": piece.text} if is_first else {"content": piece.text})
                is_first = False
    finally:
        await pieces.aclose()
    answer = gathered.answer()
    yield chunk({"role": "assistant", "content": ""} if is_first else {}, answer.finish_reason)
    if options.include_usage:
        yield sse({**head, "model": answer.model, "choices": [], "usage": _usage(answer.usage)})
    yield sse("[DONE]")


def _config(community_id: int | None, ai: AIService, profiles: Profiles) -> dict[str, Any]:
    has_own_key = ai.has_own_key(community_id)
    found = profiles.of_community(community_id, has_own_key=has_own_key)
    names = profiles.names
    return {
        "success": True,
        "community_id": community_id,
        "config": {name: getattr(found.profile, name) for name in names},
        "own": dict(found.own) if community_id is not None else dict(profiles.fleet),
        "decided_by": {name: found.decided_by[name] for name in names},
        "has_own_key": has_own_key,
        "configured": ai.is_set_up(community_id, found.profile.order),
    }
