"""The alias module. Composition root."""

from __future__ import annotations

from waddlebot.data.tally import WRITE_EVERY_S
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import AliasSettings
from .controllers import api
from .controllers.chat import AliasChat
from .models import define_tables
from .services.alias_service import CACHE, AliasService
from .services.records import PEOPLE, alias_part

settings = AliasSettings.load()
service = Service(__file__, settings, tables=define_tables)
aliases = AliasService(service.database, service.bus, service.log, max_aliases=settings.max_aliases)

chat = AliasChat(aliases)
module = InteractionModule(service)
module.command("alias", "add", run=chat.add)
module.command("alias", "edit", run=chat.edit)
module.command("alias", "remove", run=chat.remove)
module.command("alias", "set", run=chat.set)
module.command("alias", "list", run=chat.list, only_reads=True)
module.command("alias", "stats", run=chat.stats, only_reads=True)
module.answer_any_command(run=chat.run, only_reads=True)
module.serve()

service.mount(api, using=[aliases, service.database, service.bus])
service.loops.add("uses", aliases.uses.save, every_s=WRITE_EVERY_S, finish=aliases.uses.save)
service.portable(alias_part(aliases), changed=lambda community_id: service.bus.invalidate(CACHE, community_id))
service.erases(*PEOPLE)
