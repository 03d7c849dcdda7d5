"""The AI module. Composition root."""

from __future__ import annotations

from waddlebot.base.contracts import CommandSpec, Listener, PatternSetting
from waddlebot.data.ratelimit import RateLimiter
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import AISettings
from .controllers import api
from .controllers.api import Desk
from .controllers.chat import AIChat
from .controllers.doors import SECOND_DOOR
from .controllers.health import AIHealth
from .controllers.streaming import AnswerStreams
from .models import define_tables
from .services.ai_service import AIService
from .services.asking import ModelProvider
from .services.conversations import Conversations
from .services.gate import FairGate
from .services.ledger import Ledger
from .services.mcp_provider import MCPProvider
from .services.ollama_provider import OllamaProvider
from .services.openai_provider import OpenAIProvider
from .services.profiles import Profiles
from .services.records import PEOPLE
from .services.router_service import RouterService

settings = AISettings.load()
service = Service(__file__, settings, tables=define_tables)
service.configured = bool(set(settings.set_up) & set(settings.order))


def with_defaults(spec: CommandSpec) -> CommandSpec:
    """A command that is told of the questions and events that the environment names, where a community says nothing
    else."""

    def own(listener: Listener) -> Listener:
        if not isinstance(listener.pattern, PatternSetting):
            return listener
        pattern = listener.pattern.model_copy(update={"default": settings.question_triggers})
        return listener.model_copy(update={"pattern": pattern})

    by_default = {"on_default": settings.respond_to_events, "types_default": settings.event_types}
    events = spec.events.model_copy(update=by_default) if spec.events else None
    return spec.model_copy(update={"listen": [own(each) for each in spec.listen], "events": events})


def make_models() -> list[ModelProvider]:
    """OpenAI is always there, for communities with keys of their own."""
    models: list[ModelProvider] = [
        OpenAIProvider(base_url=settings.openai_base_url, api_key=settings.key_for_openai, model=settings.openai_model)
    ]
    if settings.ollama_url is not None:
        models.append(OllamaProvider(base_url=settings.ollama_url, bearer=settings.bearer, model=settings.ai_model))
    if settings.mcp_url is not None:
        models.append(
            MCPProvider(
                url=settings.mcp_url,
                tool=settings.mcp_tool,
                bearer=settings.bearer,
                timeout_s=settings.mcp_timeout_s,
            )
        )
    return models


commands = [with_defaults(spec) for spec in service.manifest.commands]
service.manifest = service.manifest.model_copy(update={"commands": commands})

ledger = Ledger(service.database)
profiles = Profiles(service.database, service.bus, settings, module_name=service.name, specs=service.manifest.settings)
conversations = Conversations(service.database, module_name=service.name)
router = RouterService(service.router, service.bus, module_name=service.name)
ai = AIService(
    make_models(),
    set_up=settings.set_up,
    providers=service.providers,
    credentials=service.credentials,
    gate=FairGate(settings.max_concurrent_requests),
    ledger=ledger,
    timeout_s=settings.request_timeout_s,
    log=service.log,
)

chat = AIChat(
    ai, profiles, conversations, ledger, router, RateLimiter(service.bus.client, service.log, service.metrics)
)
module = InteractionModule(service)
module.command("ai", run=chat.ai_command, calls_out=True)
module.command("ask", run=chat.ask, calls_out=True)
module.serve()

health = AIHealth(service, ai, profiles)
desk = Desk(service.database, ai, profiles)
service.mount(api, *SECOND_DOOR, using=[ai, profiles, ledger, router, health, desk, AnswerStreams(service.log)])
service.check("providers", health.check)
service.more_health = lambda: {"load": ai.load}
service.portable()
service.erases(*PEOPLE)
service.loops.add("forget-conversations", conversations.forget_old, every_s=600, once=True)
service.loops.add("forget-usage", ledger.forget_old, every_s=3600, once=True)
