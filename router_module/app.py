"""The router: takes events from collectors and gets them answered. Composition root."""

from __future__ import annotations

import os
import secrets

from waddlebot.background import TargetPools
from waddlebot.clients import ModuleClient
from waddlebot.contracts import ModuleRegistration
from waddlebot.encryption import Keyring
from waddlebot.http import EgressGuard
from waddlebot.service import Service

from .config import RouterSettings
from .controllers import directory, events, modules, responses
from .models import define_tables
from .services.builtin_commands import BuiltinCommands
from .services.cache_manager import COMMANDS, CacheManager
from .services.circuit_breaker import CircuitBreakers
from .services.command_processor import ROUTER, CommandProcessor
from .services.container_engine import ContainerEngine
from .services.execution_engine import RemoteEngine
from .services.explainer import Explainer
from .services.lambda_engine import LambdaEngine
from .services.ledger import Ledger
from .services.openwhisk_engine import OpenWhiskEngine
from .services.outbox_service import OutboxService
from .services.rbac_service import RBACService
from .services.registry import Registry
from .services.response_service import ResponseService
from .services.session_manager import SessionManager
from .services.starts import Starts
from .services.statistics_service import StatisticsService
from .services.webhook_client import WebhookClient
from .services.webhook_engine import WebhookEngine
from .services.webhook_secrets import WebhookSecrets

settings = RouterSettings.load()
service = Service(__file__, settings, tables=define_tables)
db, bus = service.database, service.bus

lookups = CacheManager(db, bus, settings)
sessions = SessionManager(bus.client, prefix=settings.session_prefix, ttl_s=settings.session_ttl_s)
explainer = Explainer(db, sessions)
guard = EgressGuard(settings.egress_allow)
circuits = CircuitBreakers(
    service.log, service.metrics, max_failures=settings.circuit_failures, rest_s=settings.circuit_rest_s
)
starts, webhook_secrets = Starts(db), WebhookSecrets(db, bus, Keyring(settings))
engines: dict[str, RemoteEngine] = {
    "container": ContainerEngine(circuits, ModuleClient(service.client)),
    "lambda": LambdaEngine(circuits, starts, settings),
    "openwhisk": OpenWhiskEngine(circuits, starts, settings),
    "webhook": WebhookEngine(circuits, WebhookClient(guard), guard, webhook_secrets),
}
registry = Registry(db, bus, guard, own_url=service.url, engines=engines, secrets=webhook_secrets)
pools = TargetPools(service.log, workers_per_target=settings.max_workers)
processor = CommandProcessor(
    settings,
    lookups=lookups,
    rbac=RBACService(),
    ledger=Ledger(db, holder=f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}", lease_s=settings.lease_s),
    sessions=sessions,
    engines={**engines, ROUTER: BuiltinCommands(lookups, explainer, db)},
    pools=pools,
    log=service.log,
    metrics=service.metrics,
)
outbox = OutboxService(db)
statistics = StatisticsService(db, lookups, service.metrics)
service.more_metrics = statistics.figures
service.more_health = lambda: {"processor": statistics.processor()}

service.mount(
    events,
    modules,
    responses,
    directory,
    using=[processor, registry, ResponseService(db, processor), explainer, outbox],
)


def register_own_commands() -> None:
    """The router's own commands need no registration over HTTP."""
    own = ModuleRegistration(
        module_name=ROUTER,
        module_version=service.version,
        endpoint_url=f"{service.url}/router/execute",
        commands=service.manifest.commands,
    )
    with db.transaction() as transaction:
        registry.save_commands(transaction, own)
    bus.invalidate(COMMANDS)


register_own_commands()
service.loops.add("renew-leases", processor.renew_leases, every_s=settings.lease_s / 3)
service.loops.add("take-over", processor.take_over, every_s=min(1.0, settings.lease_s / 2))
service.loops.add("outbox-sweep", outbox.sweep, every_s=5.0)
