"""The marketplace: what communities can have, have, and think of it. Composition root."""

from __future__ import annotations

from datetime import timedelta

from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import MarketplaceSettings
from .controllers import desk, installs, payments, publishing, state, store
from .controllers.chat import ModuleChat
from .models import define_tables
from .services import desk as operators
from .services import usage
from .services.installing import Installing
from .services.payments import Stripe
from .services.publishing import Publishing
from .services.records import KEEPS, PEOPLE, installation_part, note_part
from .services.router_calls import RouterCalls
from .services.store import Store
from .services.subscriptions import Subscriptions

settings = MarketplaceSettings.load()
service = Service(__file__, settings, tables=define_tables)
db, log = service.database, service.log

router = RouterCalls(service.client, settings.router_url)
shelves = Store(service.bus)
publisher = Publishing(db, router, log, run=settings.community_modules_run)
installing = Installing(db, router, publisher, log)
warning = timedelta(days=settings.warning_days)
subscriptions = Subscriptions(
    db, service.bus, service.router, log, grace=timedelta(days=settings.grace_days), warning=warning
)
stripe = Stripe(settings.payments_webhook_secret)

chat = ModuleChat(shelves, installing)
module = InteractionModule(service)
module.command("module", "search", run=chat.search, only_reads=True)
module.command("module", "list", run=chat.list, only_reads=True)
module.command("module", "install", run=chat.install, calls_out=True)
module.command("module", "both", run=chat.both, calls_out=True)
module.command("module", "remove", run=chat.remove, calls_out=True)
module.serve()

service.mount(
    store,
    publishing,
    desk,
    installs,
    state,
    payments,
    using=[shelves, publisher, installing, subscriptions, stripe, warning, service.bus],
)
service.portable(installation_part(), note_part())
service.erases(*PEOPLE, keeps=KEEPS, forgotten=lambda _: usage.count_ratings_anew(db))

service.loops.add("finish-installations", installing.finish_what_was_left, every_s=5.0, once=True)
service.loops.add("count-usage", lambda: usage.count_usage(db), every_s=30.0, once=True)
service.loops.add("tell-taken-down", lambda: operators.tell_owners(db, service.router, log), every_s=5.0, once=True)
service.loops.add("tell-owners", subscriptions.tell_owners, every_s=60.0, once=True)
