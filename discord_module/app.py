"""The Discord collector. Composition root."""

from __future__ import annotations

from waddlebot.base.bridge import shared_bridge
from waddlebot.base.contracts import ModuleRegistration
from waddlebot.base.encryption import Keyring
from waddlebot.base.ids import parse_entity_id
from waddlebot.collecting.collector import SERVERS, Collector, answer_not_configured, check_credentials
from waddlebot.collecting.pace import Pace
from waddlebot.collecting.roles import RoleNews
from waddlebot.community.oauth import OAuthStates
from waddlebot.module.service import Service

from .config import DiscordSettings
from .controllers import api, auth, interactions
from .controllers.pages import ConsentPages
from .models import EVENTS, define_tables
from .services.action_service import ActionService
from .services.bot_service import BotService
from .services.command_service import CommandService
from .services.forgetting import PEOPLE
from .services.guild_service import GuildService
from .services.identify import IdentifyPace
from .services.inbox import Inbox
from .services.info_service import InfoService
from .services.interaction_service import InteractionService
from .services.oauth_service import OAuthService
from .services.shards import REPORT_EVERY_S, Gateway, ShardReports, Shards
from .services.translation import translate
from .services.voice_service import VoiceService

VOICE_EVERY_S = 5.0
COMMANDS_EVERY_S = 1.0
SILENT_EVERY_S = 1.0
FORGET_EVERY_S = 60.0
SHARD_COUNT_EVERY_S = 600.0

settings = DiscordSettings.load()
service = Service(__file__, settings, tables=define_tables)
service.portable()
service.erases(*PEOPLE)
service.configured = check_credentials(settings, "discord", settings.credentials)

if settings.bot_token and settings.application_id and settings.public_key:
    db, log = service.database, service.log
    guilds = GuildService(db)
    reports = ShardReports(db)
    bot = BotService(
        token=settings.bot_token,
        application_id=settings.application_id,
        api_base_url=settings.api_base_url,
        guilds=guilds,
        log=log,
    )

    def shard_of(entity_id: str) -> str:
        """What the bot says comes back through the shard of its server."""
        return shards.entity_of(int(parse_entity_id(entity_id).server_id))

    collector = Collector(
        service,
        EVENTS,
        translate=translate,
        send=bot.send,
        act=bot.act,
        whisper=bot.whisper,
        pace=Pace(key=lambda _: "all", limit=lambda _: settings.send_limit, per_s=1.0),
        echo_in=shard_of,
        intake="worker",
    )
    receiver = InteractionService(
        collector,
        db=db,
        keyring=Keyring(settings),
        public_key=settings.public_key,
        add_url=f"{settings.base_url.rstrip('/')}/discord/auth",
        log=log,
    )
    bot.interactions = receiver
    bot.more = collector.pacer.more if collector.pacer else None

    roles = RoleNews("discord", db, service.client, service.bus.client, log)
    inbox = Inbox(
        collector, guilds, VoiceService(db), saw_roles=roles.saw, command_prefix=settings.command_prefix, log=log
    )
    gateway = Gateway(
        token=settings.bot_token,
        api_base_url=settings.api_base_url,
        pace=IdentifyPace(service.bus.client, spacing_s=settings.identify_spacing_s, log=log),
        inbox=inbox,
        interactions=receiver,
        collector=collector,
        log=log,
    )
    shards = Shards(gateway, db=db, container_id=settings.container_id or collector.holder)
    claims = collector.claim(
        gained=shards.gained,
        lost=shards.lost,
        max_claims=settings.max_claims,
        container_id=settings.container_id,
        shard_count=settings.shard_count,
    )
    commands = CommandService(
        db,
        service.client,
        router_url=settings.router_url,
        application_id=settings.application_id,
        client=lambda: bot.client,
        submit=shared_bridge().submit,
        is_leader=lambda: "discord:shard:0" in claims.held,
        changed=guilds.changed,
        log=log,
    )

    # Modules, switches and aliases, and which servers are served.
    for what in ("commands", SERVERS):
        service.bus.listen(what, lambda *_: guilds.changed.set())
    oauth = OAuthService(
        db,
        service.bus,
        OAuthStates(db, "discord", path="/discord/auth", secure=settings.callback_url.startswith("https://")),
        guilds,
        application_id=settings.application_id,
        client_secret=settings.client_secret,
        api_base_url=settings.api_base_url,
        authorize_url=settings.authorize_url,
        callback_url=settings.callback_url,
        log=log,
    )
    pages = ConsentPages(reports)
    service.mount_static(pages.look.statics)
    service.mount(
        interactions,
        api,
        auth,
        using=[
            receiver,
            oauth,
            pages,
            InfoService(db, guilds, reports),
            ActionService(bot, shared_bridge(), roles, log),
        ],
    )
    service.check("gateway", reports.check)

    def finish_silent() -> bool:
        return shared_bridge().submit(bot.finish_silent()).result() > 0

    def grow() -> None:
        """Have as many shards as Discord wants; never fewer again, because each change makes all of them begin anew."""
        wanted = shared_bridge().submit(bot.recommended_shards()).result()
        if settings.shard_count is None and wanted > (claims.shard_count or 1):
            log.system("shards_added", before=claims.shard_count or 1, now=wanted)
            claims.shard_count = wanted

    loops = service.loops
    loops.add("shard-count", grow, every_s=SHARD_COUNT_EVERY_S, kind="worker")
    loops.add("gateway-inbox", inbox.step, every_s=0.5, kind="worker", wake=inbox.wake, finish=inbox.finish)
    loops.add("shard-reports", shards.report, every_s=REPORT_EVERY_S, kind="worker", wake=shards.changed)
    loops.add("voice", shards.count_voice, every_s=VOICE_EVERY_S, kind="worker", wake=inbox.voice_changed)
    loops.add("slash-commands", commands.step, every_s=COMMANDS_EVERY_S, kind="worker")
    loops.add("silent-commands", finish_silent, every_s=SILENT_EVERY_S, kind="worker", once=True)
    loops.add("role-news", roles.step, every_s=5.0, kind="both", wake=roles.wake)
    loops.add("old-interactions", receiver.forget_old, every_s=FORGET_EVERY_S, kind="worker", once=True)
else:
    answer_not_configured(service, interactions, api, auth)

service.register_with_router(
    ModuleRegistration(
        module_name=service.name,
        module_version=service.version,
        platform="discord",
        endpoint_url=service.url,
        health_check_url=f"{service.url}{service.manifest.prefix}/health",
    )
)
