"""The community portal. Composition root."""

from __future__ import annotations

from waddlebot.base.encryption import Keyring
from waddlebot.community.oauth import OAuthStates
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.people import Personal
from waddlebot.module.service import Service
from waddlebot.web.actor import ActorKey
from waddlebot.web.http import HTTPClient
from waddlebot.web.signin_pages import signin_pages

from .config import PortalSettings
from .controllers import (
    ai,
    audit,
    carrying,
    channels,
    commands,
    daily,
    groups,
    home,
    imports,
    installing,
    inventory,
    keys,
    labels,
    links,
    market,
    members,
    moderation,
    modules,
    music,
    notices,
    operator,
    overlays,
    platforms,
    playground,
    points,
    profile,
    public,
    rights,
    rules,
    shoutouts,
)
from .controllers.chat import CommunityChat
from .models import LOGIN_FIELDS, define_tables
from .services.carrying import Carrying
from .services.channels import ConsentPages
from .services.figures import COUNT_EVERY_S, GLANCES_KEPT_S, LEADERS_KEPT_S, AtLeisure, FigureService
from .services.fleet_api import BASES_KEPT_S, FleetAPI
from .services.imports import ImportService
from .services.invitations import Invitations
from .services.links import LinkService
from .services.logins import LoginService, begins_at, check_password_holds
from .services.notices import MAIL_EVERY_S, Notices
from .services.platform_logins import PlatformLogins, providers_of
from .services.platform_roles import PlatformRoles
from .services.seats import Seats, own_shell
from .services.second_steps import SecondSteps

settings = PortalSettings.load()
service = Service(__file__, settings, tables=define_tables)
actor_key = ActorKey.parse(settings.actor_key.get_secret_value()) if settings.actor_key else None

second_steps = SecondSteps(service.database, Keyring(settings), service.log)
site = service.site(
    settings,
    extra_fields=LOGIN_FIELDS,
    two_factor_required=second_steps.is_required,
    two_factor_validate=second_steps.is_right,
    check_login=check_password_holds,
    begins_at=begins_at,
    shell=own_shell,
    frames=settings.overlays_url or settings.base_url,
)
seats = Seats(service.database)
fleet = FleetAPI(
    service.database,
    service.client,
    actor_key,
    service.bus.cache("portal-bases", ttl_s=BASES_KEPT_S),
    core=settings.core_api_url,
    broker=settings.broker_url,
    at_once=settings.fleet_calls,
)
figures = FigureService(
    service.database,
    service.bus.cache("portal-leaders", ttl_s=LEADERS_KEPT_S),
    service.bus.cache("portal-glances", ttl_s=GLANCES_KEPT_S),
)
sign_in_links = LinkService(service.database)
invitations = Invitations(service.database, sign_in_links)

http = HTTPClient()
platform_roles = PlatformRoles(
    service.database,
    http,
    fleet,
    service.log,
    twitch=settings.twitch_app,
    discord_api=settings.discord_api_base_url,
)
platform_logins = PlatformLogins(
    service.database,
    http,
    OAuthStates(service.database, "portal", path="/portal/auth", secure=site.url.startswith("https://")),
    providers_of(settings),
    platform_roles,
    url=site.url,
)
site.ways_in = platform_logins.ways_in
logins = LoginService(service.database)

chat = CommunityChat(service.database, service.bus, fleet, service.router, logins, site.mail, service.log, url=site.url)
module = InteractionModule(service)
module.command("community", "create", run=chat.create)
module.command("community", "list", run=chat.list, only_reads=True)
module.command("community", "info", run=chat.info, only_reads=True)
module.command("community", "members", run=chat.members, only_reads=True)
module.command("community", "add", run=chat.add)
module.command("community", "context", run=chat.context)
module.command("community", "leave", run=chat.leave)
module.command("community", "role", run=chat.role, calls_out=True)
module.command("community", "announce", run=chat.announce_here, calls_out=True)
module.command("community", "portal", run=chat.portal, calls_out=True)
module.command("announce", run=chat.announce, calls_out=True)
module.serve()

service.mount_static(site.look.statics)
pages = [audit, channels, commands, home, installing, inventory, keys, links, members, modules, operator, overlays]
pages += [ai, carrying, daily, groups, imports, labels, market, music, shoutouts]
pages += [moderation, notices, platforms, playground, points, profile, public, rights, rules]
told = Notices(service.database, site.mail, service.log, url=site.url)
ways_in = [sign_in_links, second_steps, platform_logins, platform_roles, invitations]
ways_in += [ConsentPages.parse(settings.consent_urls)]
carried = [Carrying(fleet, service.bus.client), ImportService(service.database, service.bus.client)]
service.mount(*pages, *signin_pages(site), using=[site, seats, fleet, figures, told, *carried, *ways_in])
service.portable()
service.erases(
    Personal(
        "portal_platform_roles",
        where="auth_user_id IN (SELECT id FROM auth_user WHERE waddlebot_user_id = ANY(%(own_ids)s))",
        within="community_id = %(community)s",
        key="auth_user_id",
        shown="platform, community_id, role, expires_at",
    ),
    Personal(
        "auth_user",
        where="waddlebot_user_id = ANY(%(own_ids)s)",
        shown="email, first_name, last_name, created_at, last_portal_login",
    ),
    Personal("portal_movers", where="user_id = ANY(%(own_ids)s)", within="community_id = %(community)s", key="days"),
    Personal(
        "portal_person_days", where="user_id = ANY(%(own_ids)s)", within="community_id = %(community)s", key="day"
    ),
    Personal("portal_contexts", where="own_id = ANY(%(own_ids)s)", within="community_id = %(community)s", key="own_id"),
)

service.loops.add("count-hours", AtLeisure(figures.count_hours), every_s=COUNT_EVERY_S, once=True)
service.loops.add("count-days", AtLeisure(figures.count_days), every_s=COUNT_EVERY_S, once=True)
service.loops.add("mail-notices", told.send, every_s=MAIL_EVERY_S, once=True)
service.loops.add("forget-notice-mails", told.forget, every_s=3600, once=True)
service.loops.add("forget-links", sign_in_links.forget_old, every_s=3600, once=True)
service.loops.add("forget-platform-roles", platform_roles.forget_old, every_s=3600, once=True)
