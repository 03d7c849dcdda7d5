"""Answers: who is asked, in which order, at what cost. The one way to a model for chat and for programs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from waddlebot.base.errors import NotConfigured, ProviderError, Refused, UserError
from waddlebot.base.logs import AAALog
from waddlebot.community.credentials import Credentials
from waddlebot.web.provider import Provider, Providers

from .asking import Answer, Asked, Gathered, ModelProvider, Piece
from .gate import FairGate
from .ledger import Ledger, Payer

T = TypeVar("T")
OPENAI = "openai"
TRIES = 2
# What one who is not the last in the row may take of the time that is left, and the least that it gets.
SHARE, LEAST_SHARE_S = 0.6, 2.0
# Refusals that are about the question; the next one in the row would say the same.
ABOUT_THE_QUESTION = (400, 413, 422)
NO_SUCH_MODEL = 404
MODELS_KNOWN_FOR_S = 60.0


class NotSetUp(UserError, NotConfigured):
    """The AI is not set up yet. The bot's operator sets AI_HOST, OPENAI_API_KEY or MCP_SERVER_URL; or this community's
    owner keeps an OpenAI key of their own for it."""

    code = "not_configured"
    http_status = 503


@dataclass(frozen=True, slots=True)
class Route:
    """One provider, asked with one key."""

    model: ModelProvider
    guard: Provider
    key: str | None
    account: str


class AIService:
    """`set_up` are the providers that the operator has set up; the others answer only with a community's own key."""

    def __init__(
        self,
        models: Sequence[ModelProvider],
        *,
        set_up: Sequence[str],
        providers: Providers,
        credentials: Credentials,
        gate: FairGate,
        ledger: Ledger,
        timeout_s: float,
        log: AAALog,
    ) -> None:
        self._models: dict[str, tuple[ModelProvider, Provider]] = {
            each.name: (
                each,
                providers.add(each.name, title=each.title, translate=each.translate, timeout_s=timeout_s, tries=TRIES),
            )
            for each in models
        }
        self._set_up = set_up
        self._credentials = credentials
        self._gate = gate
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._log = log
        self._known_models: dict[tuple[str, str], tuple[float, list[str]]] = {}

    def has_own_key(self, community_id: int | None) -> bool:
        return self._find_key(community_id) is not None

    def is_set_up(self, community_id: int | None, order: Sequence[str]) -> bool:
        return bool(self._routes(community_id, order))

    def answer(self, asked: Asked, payer: Payer, order: Sequence[str], *, within_s: float | None = None) -> Answer:
        """What the first provider in the row says that answers. What it cost is in the ledger.

        Raises: NotSetUp; BudgetUsedUp; TooManyAsk; ProviderError, of the first one asked.
        """
        until = time.monotonic() + min(within_s or self._timeout_s, self._timeout_s)
        routes = self._get_routes(payer.community_id, order)
        row_id = self._ledger.reserve(payer, asked)
        try:
            with self._gate.entered(payer.community_id, within_s=until - time.monotonic()):
                answer, route = self._first_that_answers(routes, asked, until)
        except BaseException:
            self._ledger.take_back(row_id)
            raise
        self._ledger.settle(row_id, answer, has_own_key=route.key is not None)
        return answer

    def stream(self, asked: Asked, payer: Payer, order: Sequence[str]) -> Iterator[Piece]:
        """The same as it is written. The next provider is asked only as long as nothing was said. Whatever was said is
        settled, also when the iterator is closed before its end."""
        gathered, spoke = Gathered(asked), None
        reserved = self._ledger.reserve(payer, asked)
        try:
            with self._gate.entered(payer.community_id, within_s=self._timeout_s):
                until = time.monotonic() + self._timeout_s
                for route, piece in self._stream_first(self._get_routes(payer.community_id, order), asked, until):
                    gathered.add(piece)
                    spoke = route
                    yield piece
        finally:
            if spoke is not None:
                answer = replace(gathered.answer(), provider=spoke.model.name)
                self._ledger.settle(reserved, answer, has_own_key=spoke.key is not None)
            else:
                self._ledger.take_back(reserved)

    def check(self, payer: Payer, order: Sequence[str]) -> None:
        """Raises: NotSetUp; BudgetUsedUp."""
        self._get_routes(payer.community_id, order)
        self._ledger.check(payer)

    def order_for(self, model: str, community_id: int | None, order: Sequence[str]) -> Sequence[str]:
        """The row with whoever has that model first, as far as that is known."""
        routes = self._routes(community_id, order)
        names = [route.model.name for route in routes]
        for route in routes:
            _, known = self._known_models.get((route.model.name, route.account), (0.0, []))
            if model == route.model.default_model or model in known:
                return [route.model.name, *(name for name in names if name != route.model.name)]
        return names

    def list_models(self, community_id: int | None, order: Sequence[str]) -> list[tuple[str, str]]:
        """The models that may be asked for and whose they are, the own ones first. One that does not say lists none."""
        listed: list[tuple[str, str]] = []
        for route in self._routes(community_id, order):
            listed += [(route.model.name, name) for name in self._models_of(route)]
        return listed

    def states(self, community_id: int | None, order: Sequence[str]) -> list[dict[str, Any]]:
        """How each provider is, without asking it; those in the row first."""
        row = [*order, *(name for name in self._models if name not in order)]
        key = self._find_key(community_id)
        return [
            self._state(name, row.index(name) if name in order else None, key) for name in row if name in self._models
        ]

    @property
    def load(self) -> Mapping[str, int]:
        return self._gate.counts()

    def _state(self, name: str, place: int | None, key: str | None) -> dict[str, Any]:
        model, guard = self._models[name]
        own = name == OPENAI and key is not None
        state = guard.state()
        is_set_up = name in self._set_up or own
        status = "unconfigured" if not is_set_up else "left_alone" if state.is_left_alone else "ready"
        status = "paused" if status == "ready" and state.paused_s else status
        return {
            "name": name,
            "title": model.title,
            "status": status,
            "configured": is_set_up,
            "is_default": place == 0,
            "place": place,
            "model": model.default_model,
            "has_own_key": own,
            "breaker": "open" if state.is_left_alone else "closed",
            "paused_s": state.paused_s,
            "last_error": state.last_error or None,
            "last_error_at": state.last_error_at,
            "last_answer_at": state.last_answer_at,
        }

    def _first_that_answers(self, routes: Sequence[Route], asked: Asked, until: float) -> tuple[Answer, Route]:
        first_error: ProviderError | None = None
        for place, route in enumerate(routes):
            question = _as_asked_at(place, asked)
            try:
                answer = route.guard.look_up(
                    lambda timeout_s, route=route, question=question: route.model.answer(  # type: ignore[misc]
                        question, key=route.key, timeout_s=timeout_s
                    ),
                    within_s=_share(until, is_last=place == len(routes) - 1),
                    account=route.account,
                )
                return replace(answer, provider=route.model.name), route
            except ProviderError as err:
                first_error = first_error or err
                if not self._goes_on(err, asked, routes, place):
                    raise
        assert first_error is not None
        raise first_error

    def _stream_first(self, routes: Sequence[Route], asked: Asked, until: float) -> Iterator[tuple[Route, Piece]]:
        for place, route in enumerate(routes):
            question = _as_asked_at(place, asked)
            try:
                begun = route.guard.look_up(
                    lambda timeout_s, route=route, question=question: _begin(  # type: ignore[misc]
                        route.model.stream(question, key=route.key, timeout_s=timeout_s)
                    ),
                    within_s=_share(until, is_last=place == len(routes) - 1),
                    account=route.account,
                )
            except ProviderError as err:
                if not self._goes_on(err, asked, routes, place):
                    raise
                continue
            yield from self._rest_of(route, *begun)
            return

    def _rest_of(self, route: Route, first: Piece, rest: Iterator[Piece]) -> Iterator[tuple[Route, Piece]]:
        with closing(rest):  # type: ignore[type-var]
            yield route, first
            while True:
                try:
                    piece = next(rest, None)
                except Exception as err:
                    raise route.guard.failed(err) from err
                if piece is None:
                    return
                yield route, piece

    def _goes_on(self, err: ProviderError, asked: Asked, routes: Sequence[Route], place: int) -> bool:
        """Whether to ask the next one."""
        is_about_it = isinstance(err, Refused) and err.status in ABOUT_THE_QUESTION
        # Who asked for a model by its name wants no other's answer.
        is_about_model = isinstance(err, Refused) and err.status == NO_SUCH_MODEL and bool(asked.model)
        if place == len(routes) - 1 or is_about_it or is_about_model:
            return False
        names = [each.model.name for each in routes]
        self._log.system("ai_failover", result="FAILED", provider=names[place], to=names[place + 1])
        return True

    def _get_routes(self, community_id: int | None, order: Sequence[str]) -> list[Route]:
        routes = self._routes(community_id, order)
        if not routes:
            raise NotSetUp()
        return routes

    def _routes(self, community_id: int | None, order: Sequence[str]) -> list[Route]:
        key = self._find_key(community_id)
        # A key that somebody brought is for being used, also where nobody was chosen.
        row = [*order, *([OPENAI] if key and not order else [])]
        found = []
        for name in row:
            model, guard = self._models.get(name, (None, None))
            own = key if name == OPENAI else None
            if model is not None and guard is not None and (own or name in self._set_up):
                found.append(Route(model, guard, own, f"community {community_id}" if own else ""))
        return found

    def _find_key(self, community_id: int | None) -> str | None:
        if community_id is None:
            return None
        kept = self._credentials.find(community_id, OPENAI)
        return kept.get("api_key") if kept else None

    def _models_of(self, route: Route) -> list[str]:
        known_as = (route.model.name, route.account)
        until, known = self._known_models.get(known_as, (0.0, []))
        if time.monotonic() < until:
            return known
        try:
            listed = route.guard.look_up(
                lambda timeout_s: route.model.list_models(key=route.key, timeout_s=timeout_s),
                within_s=5.0,
                account=route.account,
            )
        except ProviderError:
            return [route.model.default_model]  # It is logged and counted already.
        # Its own first: clients that have to name one take that.
        own = route.model.default_model
        known = [own, *(each for each in listed if each != own)]
        self._known_models[known_as] = time.monotonic() + MODELS_KNOWN_FOR_S, known
        return known


def _as_asked_at(place: int, asked: Asked) -> Asked:
    """A model's name means something to its own provider only."""
    return asked if place == 0 or not asked.model else replace(asked, model="")


def _share(until: float, *, is_last: bool) -> float:
    left_s = until - time.monotonic()
    return left_s if is_last else max(min(left_s, LEAST_SHARE_S), left_s * SHARE)


def _begin(pieces: Iterator[Piece]) -> tuple[Piece, Iterator[Piece]]:
    """The first piece that says something, and the rest."""
    for piece in pieces:
        if piece.text or piece.finish_reason:
            return piece, pieces
    raise Refused("an empty stream", words="it gave no answer")
