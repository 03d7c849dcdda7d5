"""The AI module's settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field
from waddlebot.base.settings import CommaList, Secret, Settings

ProviderName = Literal["ollama", "openai", "mcp"]
PROVIDERS: tuple[ProviderName, ...] = ("ollama", "openai", "mcp")
OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_PORT = 11434
MCP_PATH = "/mcp"
DEFAULT_PROMPT = (
    "You are a helpful chatbot assistant. Provide friendly, concise, and helpful responses to users in chat."
)


def _check_url(text: str) -> str:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be http://host or https://host, with a port and a path if need be")
    _ = parts.port  # Raises for what is none.
    return urlunsplit(parts).rstrip("/")


def _check_providers(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f"must be of {', '.join(PROVIDERS)}, each once")
    return names


BaseURL = Annotated[str, AfterValidator(_check_url)]
ProviderNames = Annotated[CommaList, AfterValidator(_check_providers)]


class AISettings(Settings):
    """Several names in `AI_PROVIDER` are asked in that order when one fails."""

    prefix: ClassVar[str] = "AI"

    providers: ProviderNames = Field(
        default_factory=list,
        alias="AI_PROVIDER",
        description="ollama, openai or mcp; several are asked in that order. Unset: those that are set up.",
    )
    ai_host: BaseURL | None = Field(None, alias="AI_HOST", description="Where Ollama is.")
    ai_port: int | None = Field(
        None, alias="AI_PORT", ge=1, le=65535, description="Ollama's port, where AI_HOST has none; 11434 unless set."
    )
    ai_api_key: Secret | None = Field(
        None, alias="AI_API_KEY", description="Bearer for AI_HOST and MCP_SERVER_URL, and for OpenAI without its own."
    )
    ai_model: str = Field("llama3.2", alias="AI_MODEL", min_length=1, description="Ollama's model.")
    temperature: float = Field(0.7, alias="AI_TEMPERATURE", ge=0, le=2, description="How freely a model answers.")
    max_tokens: int = Field(500, alias="AI_MAX_TOKENS", ge=1, le=32_000, description="How long an answer may be.")

    openai_api_key: Secret | None = Field(None, alias="OPENAI_API_KEY", description="The key for OPENAI_BASE_URL.")
    # gpt-3.5-turbo, the specification's, was shut down on 23 October 2026.
    openai_model: str = Field("gpt-5.6-terra", alias="OPENAI_MODEL", min_length=1, description="OpenAI's model.")
    openai_base_url: BaseURL = Field(
        OPENAI_URL, alias="OPENAI_BASE_URL", description="OpenAI, or who speaks its language."
    )

    mcp_server_url: BaseURL | None = Field(
        None, alias="MCP_SERVER_URL", description="An MCP server; /mcp is added where the address has no path."
    )
    mcp_tool: str = Field("chat", alias="MCP_TOOL", min_length=1, description="The one tool there that is called.")
    mcp_timeout_s: float = Field(30, alias="MCP_TIMEOUT", gt=0, le=900, description="Give up on the tool after this.")

    system_prompt: str = Field(
        DEFAULT_PROMPT, alias="SYSTEM_PROMPT", max_length=2000, description="Who the model is in chat."
    )
    question_triggers: CommaList = Field(
        default_factory=lambda: ["?"],
        alias="QUESTION_TRIGGERS",
        max_length=20,
        description="How a line ends that is answered unasked, where a community has switched that on.",
    )
    response_prefix: str = Field(
        "🤖 ", alias="RESPONSE_PREFIX", max_length=50, description="What answers in chat begin with."
    )
    respond_to_events: bool = Field(True, alias="RESPOND_TO_EVENTS", description="Say something about events.")
    event_types: CommaList = Field(
        default_factory=lambda: ["subscription", "follow", "donation"],
        alias="EVENT_RESPONSE_TYPES",
        description="Which events, by their message_type.",
    )
    max_concurrent_requests: int = Field(
        10,
        alias="MAX_CONCURRENT_REQUESTS",
        ge=1,
        le=500,
        description="Answers waited for at once, per process.",
    )
    context_enabled: bool = Field(True, alias="ENABLE_CHAT_CONTEXT", description="Remember what was said before.")
    context_limit: int = Field(
        5, alias="CONTEXT_HISTORY_LIMIT", ge=0, le=50, description="Questions of a conversation that are remembered."
    )
    # Those who wait for a slow model only wait; what they wait for is limited by MAX_CONCURRENT_REQUESTS.
    calls_out_at_once: int = Field(
        120, alias="CALLS_OUT_AT_ONCE", ge=1, le=500, description="Commands that may wait for an answer at once."
    )

    @property
    def ollama_url(self) -> str | None:
        """AI_HOST, and AI_PORT only where it has no port itself: an address with two is read as some other host."""
        if self.ai_host is None:
            return None
        parts = urlsplit(self.ai_host)
        if parts.port is not None or (parts.scheme == "https" and self.ai_port is None):
            return self.ai_host
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return urlunsplit(parts._replace(netloc=f"{host}:{self.ai_port or OLLAMA_PORT}"))

    @property
    def mcp_url(self) -> str | None:
        if self.mcp_server_url is None:
            return None
        parts = urlsplit(self.mcp_server_url)
        return self.mcp_server_url if parts.path else urlunsplit(parts._replace(path=MCP_PATH))

    @property
    def key_for_openai(self) -> str | None:
        key = self.openai_api_key or self.ai_api_key
        return key.get_secret_value() if key else None

    @property
    def bearer(self) -> str | None:
        return self.ai_api_key.get_secret_value() if self.ai_api_key else None

    @property
    def set_up(self) -> list[ProviderName]:
        """The providers that the operator has set up. A server of one's own that speaks OpenAI's language may want no
        key."""
        has = {
            "ollama": self.ai_host is not None,
            "openai": self.openai_api_key is not None or self.openai_base_url != OPENAI_URL,
            "mcp": self.mcp_server_url is not None,
        }
        # One key for everything is OpenAI's where OpenAI is asked for by name.
        has["openai"] = has["openai"] or ("openai" in self.providers and self.ai_api_key is not None)
        return [name for name in PROVIDERS if has[name]]

    @property
    def order(self) -> list[str]:
        """Whom to ask, first to last: as AI_PROVIDER says, or else all that are set up."""
        return list(self.providers) or list(self.set_up)
