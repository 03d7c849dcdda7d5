"""The broker: who administers Kong, with which keys, and what they did. Composition root."""

from __future__ import annotations

from waddlebot.base.encryption import Keyring
from waddlebot.base.manifest import all_manifests
from waddlebot.data.ratelimit import RateLimiter
from waddlebot.fleet.accounts import fleet_accounts
from waddlebot.module.service import Service
from waddlebot.web.mail import Mail

from .config import BrokerSettings
from .controllers import admin, gateway, programs, verification
from .controllers.doors import SECOND_DOOR, Desk
from .controllers.health import BrokerHealth
from .models import define_tables
from .services.audit_log import AuditLog
from .services.backups import Backups
from .services.first_account import FirstAccount
from .services.kong_client import KongClient
from .services.program_keys import ProgramKeys
from .services.reconciliation import Reconciliation
from .services.sessions import Sessions
from .services.statistics import Statistics
from .services.user_manager import UserManager
from .services.verification import Verification

settings = BrokerSettings.load()
service = Service(__file__, settings, tables=define_tables)
service.configured = settings.kong_admin_url is not None
db, log = service.database, service.log

kong = KongClient(
    settings.kong_admin_url,
    auth=settings.kong_auth,
    timeout_s=settings.request_timeout_s,
    at_once=settings.max_concurrent_requests,
)
keyring = Keyring(settings)
audit = AuditLog(db, keyring)
users = UserManager(
    db,
    service.bus,
    kong,
    audit,
    super_admin_group=settings.super_admin_group,
    key_length=settings.api_key_length,
    # A key of that name would be taken for a part of the fleet.
    reserved=frozenset(account.name.lower() for account in fleet_accounts(all_manifests())),
)
reconciliation = Reconciliation(db, kong, users, audit, log)
program_keys = ProgramKeys(db, service.accounts, kong, audit)
backups = Backups(db, kong, users, audit, keyring)
sessions = Sessions(db)
mails = Verification(settings.broker_secret_key, Mail(settings, log), settings.base_url)
first = FirstAccount(users, settings.broker_api_key, log)
health = BrokerHealth(service, kong)
desk = Desk(
    sessions,
    RateLimiter(service.bus.client, log, service.metrics),
    RateLimiter(service.bus.client, log, service.metrics, window_s=3600, name="hourly_limits_unshared"),
    settings.per_minute,
    settings.per_hour,
)

service.mount(
    admin,
    gateway,
    programs,
    verification,
    *SECOND_DOOR,
    using=[
        desk,
        users,
        audit,
        mails,
        settings,
        keyring,
        kong,
        reconciliation,
        program_keys,
        backups,
        sessions,
        health,
        Statistics(db, kong, audit),
    ],
)
service.check("kong", health.check)
service.portable()
service.erases()
service.loops.add("save-sessions", sessions.save, every_s=5.0, finish=sessions.save)
service.loops.add("forget-sessions", sessions.forget_old, every_s=3600.0, once=True)
if service.configured:
    service.loops.add("first-account", first.make, every_s=30.0, once=True)
    service.loops.add("finish-in-kong", reconciliation.finish_changes, every_s=15.0, once=True)
    service.loops.add("forget-ended-programs", program_keys.forget_ended, every_s=300.0, once=True)
