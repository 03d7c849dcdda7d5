"""The labels module. Composition root."""

from __future__ import annotations

from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import LabelsSettings
from .controllers import api
from .controllers.chat import LabelChat
from .models import define_tables
from .services.communities import Communities
from .services.label_service import READS, LabelService
from .services.records import PEOPLE
from .services.search_service import SearchService

settings = LabelsSettings.load()
service = Service(__file__, settings, tables=define_tables)
db, bus = service.database, service.bus
labels = LabelService(db, bus, cache_ttl_s=settings.cache_ttl_s, most_at_once=settings.bulk_operation_size)
searches = SearchService(db, bus, cache_ttl_s=settings.cache_ttl_s)
communities = Communities(db, bus)

chat = LabelChat(labels, searches)
module = InteractionModule(service)
module.command("label", "add", run=chat.add)
module.command("label", "remove", run=chat.remove)
module.command("label", "list", run=chat.list, only_reads=True)
module.command("label", "find", run=chat.find, only_reads=True)
module.command("label", "who", run=chat.who, only_reads=True)
module.serve()

service.mount(api, using=[communities, labels, searches])
service.loops.add("forget-ended", labels.forget_ended, every_s=60, once=True)
service.portable()
service.erases(*PEOPLE, forgotten=lambda _: bus.invalidate(READS))
