"""What a model is asked and what comes back, whoever the provider is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from waddlebot.base.errors import ProviderError

Role = Literal["system", "user", "assistant"]
# As OpenAI has it.
FinishReason = Literal["stop", "length", "content_filter"]
# Tokens of a text are about a fourth of its characters, and each message has some of its own.
CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
# A longer answer than this is nobody's to read; what comes after it is not even received.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
# A stream may take longer than an answer may, as long as something comes.
MAX_STREAM_S = 600.0


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all that the model needs. Without a `model` the provider's own is asked."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    model: str = ""
    stop: tuple[str, ...] = ()
    # Who asks, for a tool that wants to know.
    user_name: str = ""

    @property
    def estimated_tokens(self) -> int:
        return sum(count_tokens(each.content) + TOKENS_PER_MESSAGE for each in self.messages)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. Estimated where the provider does not say."""

    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool = False

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    model: str
    usage: Usage
    finish_reason: FinishReason = "stop"
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer that is being written. The last one says how it ended, and what it cost if that is known."""

    text: str = ""
    model: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None


class ModelProvider(Protocol):
    """Somebody who answers. Each call keeps to `timeout_s`, tries once, and raises what its library raises."""

    name: str
    title: str
    default_model: str

    def translate(self, err: Exception) -> ProviderError | None:
        """What an error of its library means."""

    def answer(self, asked: Asked, *, key: str | None, timeout_s: float) -> Answer:
        """The whole answer; `key` is a community's own."""

    def stream(self, asked: Asked, *, key: str | None, timeout_s: float) -> Iterator[Piece]:
        """The answer as it is written. Closing the iterator ends it."""

    def list_models(self, *, key: str | None, timeout_s: float) -> Sequence[str]:
        """The models that may be asked."""


@dataclass(slots=True)
class Gathered:
    """What has come of an answer so far."""

    asked: Asked
    text: list[str] = field(default_factory=list)
    usage: Usage | None = None
    finish_reason: FinishReason = "stop"
    model: str = ""

    def add(self, piece: Piece) -> None:
        if piece.text:
            self.text.append(piece.text)
        self.usage = piece.usage or self.usage
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.model = piece.model or self.model

    def answer(self) -> Answer:
        text = "".join(self.text)
        return Answer(
            text, self.model or self.asked.model, self.usage or estimate(self.asked, text), self.finish_reason
        )


def estimate(asked: Asked, text: str) -> Usage:
    """What an answer must have cost, by the length of the texts."""
    return Usage(asked.estimated_tokens, count_tokens(text) if text else 0, is_estimated=True)


def count_tokens(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)


def within(deadline: float, clock: Callable[[], float]) -> float:
    """The seconds until a deadline. Raises: TimeoutError when there are none."""
    left_s = deadline - clock()
    if left_s <= 0:
        raise TimeoutError("the time for an answer is over")
    return left_s
