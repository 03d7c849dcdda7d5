"""The inventory module. Composition root."""

from __future__ import annotations

from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import InventorySettings
from .controllers import api
from .controllers.chat import InventoryChat
from .models import define_tables
from .services.bulk_service import BulkService
from .services.inventory_service import CACHE, InventoryService
from .services.records import PEOPLE, item_part

settings = InventorySettings.load()
service = Service(__file__, settings, tables=define_tables)
inventory = InventoryService(
    service.database,
    service.bus,
    service.log,
    max_labels=settings.max_labels_per_item,
    cache_ttl_s=settings.cache_ttl_s,
)

chat = InventoryChat(inventory)
module = InteractionModule(service)
module.command("inventory", "add", run=chat.add)
module.command("inventory", "checkout", run=chat.checkout)
module.command("inventory", "checkin", run=chat.checkin)
module.command("inventory", "delete", run=chat.delete)
module.command("inventory", "list", run=chat.list, only_reads=True)
module.command("inventory", "search", run=chat.search, only_reads=True)
module.command("inventory", "status", run=chat.status, only_reads=True)
module.command("inventory", "stats", run=chat.stats, only_reads=True)
module.command("inventory", "labels", run=chat.labels)
module.serve()

bulk = BulkService(max_workers=settings.max_workers)
service.mount(api, using=[inventory, bulk, service.database, service.bus])
service.portable(item_part(inventory), changed=lambda community_id: service.bus.invalidate(CACHE, community_id))
service.erases(*PEOPLE, forgotten=lambda _: service.bus.invalidate(CACHE))
