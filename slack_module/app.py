"""The Slack collector. Composition root."""

from __future__ import annotations

from functools import partial

from waddlebot.base.bridge import shared_bridge
from waddlebot.base.contracts import ModuleRegistration
from waddlebot.base.encryption import Keyring
from waddlebot.collecting.collector import Collector, answer_not_configured, check_credentials
from waddlebot.collecting.pace import Pace
from waddlebot.collecting.roles import LOOK_EVERY_S as LOOK_AT_ROLES_S
from waddlebot.collecting.roles import RoleLook, RoleNews
from waddlebot.community.oauth import OAuthStates
from waddlebot.community.tokens import Tokens
from waddlebot.data.retention import EVERY_S, delete_old
from waddlebot.module.service import Service

from .config import SlackSettings
from .controllers import api, auth, events, slash
from .controllers.pages import ConsentPages
from .models import EVENTS, define_tables
from .services.bot_service import BotService
from .services.forgetting import PEOPLE
from .services.group_service import GroupService
from .services.installations import Installations, team_entity
from .services.intake import EventIntake
from .services.oauth_service import OAuthService
from .services.people import People
from .services.questions import Questions
from .services.records import Records
from .services.slack_calls import SlackCalls
from .services.slash_service import SlashService
from .services.socket_service import LOOK_EVERY_S, SocketService
from .services.translation import Translator

OWN_WORKSPACE_EVERY_S = 30.0
# Once would do.
WARM_UP_EVERY_S = 3600.0

settings = SlackSettings.load()
service = Service(__file__, settings, tables=define_tables)
service.portable()
service.erases(*PEOPLE)
service.configured = check_credentials(settings, "slack", settings.credentials)

if service.configured:
    db, bus, log, bridge = service.database, service.bus, service.log, shared_bridge()
    keyring = Keyring(settings)
    tokens = Tokens(db, "slack_tokens", keyring, log=log, spare=service.bus.client)
    calls = SlackCalls(
        api_base_url=settings.api_base_url, client_id=settings.client_id, client_secret=settings.client_secret
    )
    installations = Installations(
        db, bus, tokens, bridge, bot_token=settings.bot_token, refresh=calls.refresh, ask_who=calls.who, log=log
    )
    people = People(db, bus, bridge, partial(calls.user, installations.token))
    questions = Questions(db, keyring)
    commands: SlashService
    bot = BotService(installations, questions, calls, log=log)
    collector = Collector(
        service,
        EVENTS,
        translate=Translator(people),
        send=bot.send,
        act=bot.act,
        whisper=bot.whisper,
        # Slack takes one message a second in a channel.
        pace=Pace(key=str, limit=lambda _: 1, per_s=1),
        intake="worker" if settings.socket_mode else "service",
        unanswered=lambda event: commands.unanswered(event),
    )
    # Only what is said in a channel for all to see comes back; answers to slash commands do not.
    bot.pacer = collector.pacer
    bot.said = lambda team, began_at: collector.liveness.said(team_entity(team), began_at=began_at)
    secret = settings.signing_secret.get_secret_value() if settings.signing_secret else ""
    intake = EventIntake(collector, installations, people, secret=secret, log=log)
    commands = SlashService(
        collector,
        questions,
        bot,
        bridge,
        db,
        secret=secret,
        install_url=f"{settings.base_url.rstrip('/')}/slack/install",
        log=log,
    )
    records = Records(
        db,
        installations,
        bot.moderate,
        bridge,
        socket_mode=settings.socket_mode,
        serves=collector.served.serves,
        log=log,
    )
    news = RoleNews("slack", db, service.client, bus.client, log)
    service.loops.add("role-news", news.step, every_s=5.0, kind="both", wake=news.wake)
    intake.saw_role = news.saw_one
    groups = GroupService(db, installations, calls, news, log)
    look = RoleLook("slack", db, news, log, groups.list_people)
    service.loops.add("role-look", look.step, every_s=LOOK_AT_ROLES_S, kind="worker", once=True)
    service.mount(api, using=[records, groups, people])
    service.check("workspaces", installations.check)
    service.loops.add(
        "delete-commands",
        lambda: delete_old(db, "slack_commands", "created_at"),
        every_s=EVERY_S,
        kind="worker",
        once=True,
    )
    service.loops.add("warm-up", calls.warm_up, every_s=WARM_UP_EVERY_S, kind="both")
    if settings.bot_token:
        service.loops.add(
            "own-workspace", installations.notice_own_workspace, every_s=OWN_WORKSPACE_EVERY_S, kind="worker"
        )
    if settings.socket_mode and settings.app_token:
        sockets = SocketService(
            intake, commands, calls, bridge, collector.liveness, app_token=settings.app_token, log=log
        )
        collector.claim(
            gained=sockets.gain,
            lost=sockets.lose,
            max_claims=settings.max_claims,
            container_id=settings.container_id,
        )
        collector.liveness.on_deaf = sockets.repair
        service.loops.add("socket", sockets.step, every_s=LOOK_EVERY_S, kind="worker", finish=sockets.close)
    if secret:
        service.mount(events, slash, using=[intake, commands])
    else:
        answer_not_configured(service, events, slash)
    if settings.client_id and settings.client_secret:
        states = OAuthStates(db, "slack", path="/slack/oauth", secure=settings.base_url.startswith("https://"))
        oauth = OAuthService(
            installations,
            tokens,
            states,
            calls,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            redirect_uri=settings.redirect_uri,
            authorize_url=settings.authorize_url,
            log=log,
        )
        pages = ConsentPages(authorize_url=settings.authorize_url)
        service.mount_static(pages.look.statics)
        service.mount(auth, using=[oauth, pages])
    else:
        answer_not_configured(service, auth)
else:
    answer_not_configured(service, events, slash, auth, api)

service.register_with_router(
    ModuleRegistration(
        module_name=service.name,
        module_version=service.version,
        platform="slack",
        endpoint_url=service.url,
        health_check_url=f"{service.url}{service.manifest.prefix}/health",
    )
)
