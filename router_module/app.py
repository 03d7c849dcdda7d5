"""The router: takes events from collectors and gets them answered. Composition root."""

from __future__ import annotations

import os
import secrets

from waddlebot.background import TargetPools
from waddlebot.clients import ModuleClient
from waddlebot.contracts import ModuleRegistration
from waddlebot.http import EgressGuard
from waddlebot.outbox import TO_OVERLAYS
from waddlebot.sender import OutboxListener
from waddlebot.service import Service

from .config import RouterSettings
from .controllers import directory, events, modules, responses
from .models import define_tables
from .services.builtin_commands import BuiltinCommands
from .services.cache_manager import COMMANDS, CacheManager
from .services.command_processor import ROUTER, CommandProcessor
from .services.execution_engine import ContainerEngine, Engine
from .services.explainer import Explainer
from .services.ledger import Ledger
from .services.outbox_service import OutboxService
from .services.overlay_delivery import OverlayDelivery
from .services.rbac_service import RBACService
from .services.registry import Registry
from .services.response_service import ResponseService
from .services.session_manager import SessionManager
from .services.statistics_service import StatisticsService

settings = RouterSettings.load()
service = Service(__file__, settings, tables=define_tables)
db, bus = service.database, service.bus

lookups = CacheManager(db, bus, settings)
sessions = SessionManager(bus.client, prefix=settings.session_prefix, ttl_s=settings.session_ttl_s)
explainer = Explainer(db, sessions)
engines: dict[str, Engine] = {
    "container": ContainerEngine(ModuleClient(service.client)),
    ROUTER: BuiltinCommands(lookups, explainer, db),
}
registry = Registry(db, bus, EgressGuard(settings.egress_allow), own_url=service.url, engines=engines)
holder = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
overlays = OverlayDelivery(
    db, service.client, settings.browser_source_url, holder=holder, log=service.log, metrics=service.metrics
)
pools = TargetPools(service.log, workers_per_target=settings.max_workers)
processor = CommandProcessor(
    settings,
    lookups=lookups,
    rbac=RBACService(),
    ledger=Ledger(db, holder=holder, lease_s=settings.lease_s),
    sessions=sessions,
    engines=engines,
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

overlay_listener = OutboxListener(settings.database_url, TO_OVERLAYS, heard=overlays.wake.set)
service.loops.add("overlays", overlays.step, every_s=1.0, wake=overlays.wake)
service.loops.add("overlays-listen", overlay_listener.step, every_s=1.0, finish=overlay_listener.close)
