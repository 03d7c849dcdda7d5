"""The router: takes events from collectors and gets them answered. Composition root."""

from __future__ import annotations

import os
import secrets

from waddlebot.base.background import TargetPools
from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import ModuleRegistration
from waddlebot.base.encryption import Keyring
from waddlebot.collecting.sender import OutboxListener
from waddlebot.community.people import IDENTITIES, PEOPLE
from waddlebot.data.outbox import TO_OVERLAYS
from waddlebot.data.ratelimit import RateLimiter
from waddlebot.data.retention import EVERY_S
from waddlebot.data.tally import WRITE_EVERY_S
from waddlebot.module.people import Person
from waddlebot.module.service import Service
from waddlebot.web.clients import ModuleClient
from waddlebot.web.http import EgressGuard

from .config import RouterSettings
from .controllers import (
    announcements,
    audit,
    coordination,
    core_api,
    credentials,
    directory,
    events,
    keys,
    live_notices,
    module_affairs,
    modules,
    ownership,
    playback,
    presets,
    reputation,
    responses,
    roles,
    string_rules,
    switches,
    timers,
    violations,
)
from .models import define_tables
from .services.catalogue.cache_manager import COMMANDS, CacheManager
from .services.catalogue.module_specs import ROUTER
from .services.claims.coordination_service import CoordinationService
from .services.claims.directory_service import DirectoryService
from .services.commands.builtin_commands import BuiltinCommands
from .services.commands.callbacks import Callbacks
from .services.commands.command_processor import CommandProcessor
from .services.commands.cooldowns import Cooldowns
from .services.commands.parking import Parking
from .services.commands.planner import Planner
from .services.commands.rate_limiter import CommandLimits
from .services.commands.reading_ahead import ReadingAhead
from .services.commands.response_service import ResponseService
from .services.engines.container_engine import ContainerEngine
from .services.engines.execution_engine import Engine, RemoteEngine
from .services.engines.lambda_engine import LambdaEngine
from .services.engines.local_engine import LocalEngine
from .services.engines.openwhisk_engine import OpenWhiskEngine
from .services.engines.starts import Starts
from .services.engines.webhook_client import WebhookClient
from .services.engines.webhook_engine import WebhookEngine
from .services.engines.webhook_secrets import WebhookSecrets
from .services.modules.addresses import ModuleAddresses
from .services.modules.credential_service import CredentialService
from .services.modules.module_affairs import ModuleAffairs
from .services.modules.registry import Registry
from .services.modules.switch_service import SwitchService
from .services.modules.version_service import VersionService
from .services.people.ownership import Ownership
from .services.people.rbac_service import RBACService
from .services.people.reputation_service import ReputationService
from .services.people.roles_service import RolesService
from .services.records import carrying
from .services.records.announcement_service import AnnouncementService
from .services.records.audit_service import AuditService
from .services.records.explainer import Explainer
from .services.records.ledger import Ledger
from .services.records.live_notice_service import STEP_S as NOTICES_STEP_S
from .services.records.live_notice_service import LiveNoticeService
from .services.records.outbox_service import OutboxService
from .services.records.overlay_delivery import OverlayDelivery
from .services.records.people import KEEPS
from .services.records.people import PEOPLE as PEOPLE_HERE
from .services.records.playback_service import PlaybackService
from .services.records.retention_service import RetentionService
from .services.records.session_manager import SessionManager
from .services.records.timer_service import STEP_S, TimerService
from .services.records.usage_service import UsageService
from .services.rules.escalation import Escalation
from .services.rules.presets import Presets
from .services.rules.rule_book import RuleBook
from .services.rules.rule_service import RuleService
from .services.rules.rule_webhook import RULES_MODULE, RuleWebhook
from .services.rules.statistics_service import StatisticsService

settings = RouterSettings.load()
service = Service(__file__, settings, tables=define_tables)
db, bus, log = service.database, service.bus, service.log

lookups = CacheManager(db, bus, settings)
sessions = SessionManager(bus.client, prefix=settings.session_prefix, ttl_s=settings.session_ttl_s)
explainer = Explainer(db, sessions, portal_url=settings.portal_url)
usage = UsageService(db)
reputation_service = ReputationService(db, lookups, log, points=settings.points)

guard, keyring = EgressGuard(settings.egress_allow), Keyring(settings)
addresses = ModuleAddresses(service.url, settings.module_urls)
webhooks = WebhookClient(guard)

base_url = settings.base_url.rstrip("/")

# Before anything runs: what an event means, and whether it may.
rule_book = RuleBook(db, bus, log)
rules = RuleService(db, bus, rule_book, keyring, guard)
switch_service = SwitchService(db, bus, service.credentials, rule_book)
presets_of_filters = Presets(rules)
limiter = RateLimiter(bus.client, log, service.metrics)
cooldowns = Cooldowns(db)
limits = CommandLimits(limiter, cooldowns, settings)
rbac = RBACService()
escalation = Escalation(db)
planner = Planner(
    settings,
    lookups=lookups,
    rules=rule_book,
    rbac=rbac,
    limits=limits,
    sessions=sessions,
    escalation=escalation,
    callbacks=Callbacks(
        service.calls,
        responses_url=f"{base_url}/router/responses",
        state_url=settings.module_state_url or f"{base_url}/marketplace/state",
    ),
    log=log,
)

# What runs.
circuits = CircuitBreakers(log, service.metrics, max_failures=settings.circuit_failures, rest_s=settings.circuit_rest_s)
starts, webhook_secrets = Starts(db), WebhookSecrets(db, bus, keyring)
local_engine = LocalEngine(circuits, starts, settings)
engines: dict[str, RemoteEngine] = {
    "container": ContainerEngine(circuits, ModuleClient(service.client), addresses),
    "lambda": LambdaEngine(circuits, starts, settings),
    "local": local_engine,
    "openwhisk": OpenWhiskEngine(circuits, starts, settings),
    "webhook": WebhookEngine(circuits, webhooks, guard, webhook_secrets),
}
own_engines: dict[str, Engine] = {
    ROUTER: BuiltinCommands(
        lookups,
        explainer,
        reputation_service,
        db,
        rbac=rbac,
        sessions=sessions,
        switches=switch_service,
        escalation=escalation,
        presets=presets_of_filters,
    ),
    RULES_MODULE: RuleWebhook(webhooks, rules, circuits),
}
versions = VersionService(db, bus, engines=engines, secrets=webhook_secrets)
registry = Registry(
    db, bus, addresses, engines=engines, secrets=webhook_secrets, book=rule_book, lookups=lookups, log=log
)
pools = TargetPools(log, workers_per_target=settings.max_workers)
holder = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
overlays = OverlayDelivery(
    db, service.client, settings.browser_source_url, holder=holder, log=log, metrics=service.metrics
)
live_notice_service = LiveNoticeService(db)
ahead = ReadingAhead(own_engines[ROUTER], ModuleClient(service.client), addresses, circuits, pools, log)
processor = CommandProcessor(
    settings,
    lookups=lookups,
    planner=planner,
    limits=limits,
    ledger=Ledger(db, holder=holder, lease_s=settings.lease_s),
    sessions=sessions,
    usage=usage,
    overlays=overlays,
    rules=rule_book,
    parking=Parking(db, bus, log),
    notices=live_notice_service,
    engines={**engines, **own_engines},
    ahead=ahead,
    pools=pools,
    log=log,
    metrics=service.metrics,
)
playback_service = PlaybackService(db, lookups, engines, pools, rule_book, log)
outbox = OutboxService(db)
statistics = StatisticsService(db, lookups, rule_book, service.metrics)
service.more_metrics = statistics.figures
service.more_health = lambda: {"processor": statistics.processor()}
claims = CoordinationService(db, service.log, max_claims=settings.max_claims)
retention = RetentionService(db)
timer_service = TimerService(db)
service.mount(
    audit,
    events,
    announcements,
    module_affairs,
    modules,
    ownership,
    playback,
    responses,
    directory,
    core_api,
    coordination,
    credentials,
    keys,
    live_notices,
    presets,
    reputation,
    roles,
    string_rules,
    switches,
    timers,
    violations,
    using=[
        processor,
        registry,
        versions,
        ResponseService(db, processor),
        AnnouncementService(db, lookups, limiter, rule_book),
        explainer,
        playback_service,
        outbox,
        DirectoryService(db, bus, log),
        claims,
        reputation_service,
        RolesService(db, bus, log, max_workers=settings.rbac_max_workers),
        Ownership(db, bus),
        rules,
        switch_service,
        escalation,
        presets_of_filters,
        ModuleAffairs(lookups, rule_book, switch_service),
        CredentialService(db, service.credentials),
        AuditService(db, service.client, own_name=service.name, own_url=service.url),
        db,
        bus,
        log,
    ],
)


def set_changed(community_id: int) -> None:
    """What an import brought counts from now on."""
    rules.changed(community_id)
    switch_service.changed(community_id)
    bus.invalidate(PEOPLE)


def forget_person(person: Person) -> None:
    """Whoever comes back is somebody new, and nothing in Redis says who they were."""
    bus.invalidate(IDENTITIES, *(f"{platform}:{id_}" for platform, id_ in person.identities))
    bus.invalidate(PEOPLE)
    bus.invalidate(COMMANDS)
    sessions.forget_traces([*person.names, *(id_ for _, id_ in person.identities)])


service.portable(*carrying.parts(rules, switch_service), changed=set_changed)
service.erases(*PEOPLE_HERE, keeps=KEEPS, forgotten=forget_person)


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


def wake_modules() -> None:
    """Have the host of community modules at work before anybody calls one."""
    if versions.needs_host():
        local_engine.wake_host()


service.loops.add("renew-leases", processor.renew_leases, every_s=settings.lease_s / 3)
service.loops.add("take-over", processor.take_over, every_s=min(1.0, settings.lease_s / 2))
service.loops.add("late-replies", processor.look_after_late, every_s=0.5)
service.loops.add("stale-modules", registry.note_stale, every_s=10.0, once=True)
service.check("modules", registry.check_stale)
service.loops.add("outbox-sweep", outbox.sweep, every_s=5.0, once=True)
service.loops.add("usage", usage.save, every_s=WRITE_EVERY_S, finish=usage.save)
service.loops.add("timers", timer_service.step, every_s=STEP_S, once=True)
service.loops.add("old-cooldowns", cooldowns.forget_old, every_s=600, once=True)
service.loops.add("old-violations", escalation.forget_old, every_s=3600, once=True)
service.loops.add("live-notices", live_notice_service.step, every_s=NOTICES_STEP_S, once=True)
service.loops.add("old-windows", usage.forget_old_windows, every_s=3600, once=True)
service.loops.add("claims-sweep", claims.sweep, every_s=1.0, once=True)
service.loops.add("playback", playback_service.step, every_s=1.0, wake=playback_service.wake)
service.loops.add("wake-modules", wake_modules, every_s=60.0, wake=versions.wake_host)
service.loops.add("forget-chat", retention.forget_plain_chat, every_s=EVERY_S, once=True)
service.loops.add("delete-records", retention.delete_old_records, every_s=EVERY_S, once=True)

overlay_listener = OutboxListener(settings.database_url, TO_OVERLAYS, heard=overlays.wake.set)
service.loops.add("overlays", overlays.step, every_s=1.0, wake=overlays.wake)
service.loops.add("overlays-listen", overlay_listener.step, every_s=1.0, finish=overlay_listener.close)
