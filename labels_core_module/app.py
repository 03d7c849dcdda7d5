"""The labels module. Composition root."""

from __future__ import annotations

from waddlebot.community.people import LABELS
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import LabelsSettings
from .controllers import api
from .controllers import groups as groups_api
from .controllers import jobs as jobs_api
from .controllers import links as links_api
from .controllers.chat import LabelChat
from .controllers.identity_chat import IdentityChat
from .models import define_tables
from .services.ban_service import forget_echoes
from .services.carrying import parts
from .services.communities import Communities
from .services.group_service import GroupService
from .services.job_service import JobService
from .services.label_service import READS, LabelService
from .services.link_service import LinkService, forget_old
from .services.records import PEOPLE
from .services.role_service import RoleService
from .services.search_service import SearchService

settings = LabelsSettings.load()
service = Service(__file__, settings, tables=define_tables)
db, bus = service.database, service.bus
labels = LabelService(db, bus, cache_ttl_s=settings.cache_ttl_s, most_at_once=settings.bulk_operation_size)
searches = SearchService(db, bus, cache_ttl_s=settings.cache_ttl_s)
communities = Communities(db, bus)
links = LinkService(service.log)
groups = GroupService(bus, labels)
roles = RoleService(db, bus, service.client, service.router, service.log, max_workers=settings.max_workers)
jobs = JobService(db, labels, max_workers=settings.max_workers, step_size=settings.bulk_operation_size)

chat = LabelChat(labels, searches)
module = InteractionModule(service)
module.command("label", "add", run=chat.add)
module.command("label", "remove", run=chat.remove)
module.command("label", "list", run=chat.list, only_reads=True)
module.command("label", "find", run=chat.find, only_reads=True)
module.command("label", "who", run=chat.who, only_reads=True)
identity = IdentityChat(links, labels)
module.command("link", run=identity.link)
module.command("verify", run=identity.verify)
module.command("unlink", run=identity.unlink)
module.command("bans", run=identity.follow_ban)
module.command("whoami", run=identity.whoami, only_reads=True)
module.serve()

service.mount(api, using=[communities, labels, searches])
service.mount(links_api, using=[links, bus])
service.mount(jobs_api, using=[communities, jobs])
service.mount(groups_api, using=[communities, groups, roles])
service.loops.add("roles", roles.follow_changes, every_s=5, wake=roles.wake)
service.loops.add("all-roles", roles.follow_all, every_s=60, once=True)
service.loops.add("jobs", jobs.step, every_s=2, wake=jobs.wake)
service.more_health = lambda: {
    "workers": settings.max_workers,
    "jobs": jobs.counts(),
    "roles": roles.counts(),
    "searches": searches.counts,
    "reads": {"hits": labels.reads.hits, "misses": labels.reads.misses},
}


def forget_codes() -> None:
    with db.transaction() as transaction:
        forget_old(transaction)
        forget_echoes(transaction)


service.loops.add("forget-codes", forget_codes, every_s=3600, once=True)
service.loops.add("forget-ended", labels.forget_ended, every_s=60, once=True)


def forget_what_was_read(community_id: int) -> None:
    bus.invalidate(LABELS)
    bus.invalidate(READS)
    groups.tell(community_id)


service.portable(*parts(labels, groups), changed=forget_what_was_read)
service.erases(*PEOPLE, forgotten=lambda _: bus.invalidate(READS))
