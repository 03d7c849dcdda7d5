"""The community portal. Composition root."""

from __future__ import annotations

from waddlebot.module.people import Personal
from waddlebot.module.service import Service
from waddlebot.web.actor import ActorKey
from waddlebot.web.signin_pages import signin_pages

from .config import PortalSettings
from .controllers import (
    audit,
    channels,
    commands,
    home,
    installing,
    keys,
    links,
    members,
    modules,
    overlays,
    playground,
    rules,
)
from .models import LOGIN_FIELDS, define_tables
from .services.figures import DAYS_EVERY_S, HOURS_EVERY_S, FigureService
from .services.fleet_api import BASES_KEPT_S, FleetAPI
from .services.links import LinkService
from .services.seats import Seats

settings = PortalSettings.load()
service = Service(__file__, settings, tables=define_tables)
actor_key = ActorKey.parse(settings.actor_key.get_secret_value()) if settings.actor_key else None

site = service.site(settings, extra_fields=LOGIN_FIELDS)
seats = Seats(service.database)
fleet = FleetAPI(
    service.database,
    service.client,
    actor_key,
    service.bus.cache("portal-bases", ttl_s=BASES_KEPT_S),
    core=settings.core_api_url,
    at_once=settings.fleet_calls,
)
figures = FigureService(service.database)
sign_in_links = LinkService(service.database)

service.mount_static(site.look.statics)
pages = [audit, channels, commands, home, installing, keys, links, members, modules, overlays, playground, rules]
service.mount(*pages, *signin_pages(site), using=[site, seats, fleet, figures, sign_in_links])
service.portable()
service.erases(
    Personal(
        "auth_user",
        where="waddlebot_user_id = ANY(%(own_ids)s)",
        shown="email, first_name, last_name, created_at, last_portal_login",
    ),
    Personal("portal_movers", where="user_id = ANY(%(own_ids)s)", within="community_id = %(community)s", key="days"),
)

service.loops.add("count-hours", figures.count_hours, every_s=HOURS_EVERY_S, once=True)
service.loops.add("count-days", figures.count_days, every_s=DAYS_EVERY_S, once=True)
service.loops.add("forget-links", sign_in_links.forget_old, every_s=3600, once=True)
