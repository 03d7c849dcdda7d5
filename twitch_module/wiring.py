"""How the parts of the Twitch collector go together, once there are credentials."""

from __future__ import annotations

from waddlebot.base.bridge import shared_bridge
from waddlebot.base.contracts import ClaimedEntity
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import parse_entity_id
from waddlebot.collecting.claims import Claims
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.liveness import Liveness
from waddlebot.collecting.pace import Pace
from waddlebot.collecting.roles import LOOK_EVERY_S as LOOK_AT_ROLES_S
from waddlebot.collecting.roles import RoleLook, RoleNews
from waddlebot.collecting.streams import Streams
from waddlebot.community.oauth import OAuthStates
from waddlebot.community.tokens import Tokens
from waddlebot.data.cache import Cache
from waddlebot.module.service import Service

from .config import TwitchSettings
from .controllers import api as api_controller
from .controllers import auth, webhook
from .controllers.api import TwitchDesk
from .controllers.auth import AuthDesk
from .controllers.pages import ConsentPages
from .models import EVENTS
from .services.account_service import AccountService
from .services.activity_service import ActivityService
from .services.bot_service import BotService
from .services.channel_service import ChannelService, SubscriptionRow
from .services.conduit_service import ConduitMetrics, ConduitService
from .services.conduit_shards import ALIVE_FOR_S as SHARDS_ALIVE_FOR_S
from .services.conduit_shards import CHECK_EVERY_S, ShardService
from .services.live_service import LiveService
from .services.moderation_service import ModerationService
from .services.notification_service import NotificationService
from .services.oauth_service import OAuthService, Opener
from .services.role_service import RoleService
from .services.shoutout_queue import ShoutoutQueue
from .services.stream_service import StreamService
from .services.subscription_place import ConduitPlace, Place, WebhookPlace
from .services.subscription_service import SubscriptionService
from .services.translation import Translator
from .services.twitch_api import TwitchAPI
from .services.webhook_service import WebhookService
from .services.websocket_service import WebSocketService

# What Twitch lets an account say in 30 s where it moderates, and for how long that is believed.
MODERATORS_LIMIT = 100
MODERATES_TTL_S = 30.0
SEND_WINDOW_S = 30.0
LOOK_EVERY_S = 5.0
SWEEP_EVERY_S = 3600.0
PURGE_EVERY_S = 5.0


class AppOpener:
    """Channels of webhooks and conduits have subscriptions of the application, made and deleted by whoever is asked."""

    def __init__(self, api: TwitchAPI, subscriptions: SubscriptionService) -> None:
        self._api = api
        self._subscriptions = subscriptions

    def open(self, broadcaster_id: str) -> dict[str, SubscriptionRow]:
        return self._api.run(self._subscriptions.open(broadcaster_id))

    def close(self, broadcaster_id: str) -> None:
        self._api.run(self._subscriptions.close(broadcaster_id))


class SocketOpener:
    """Channels of sockets are opened by who claims them, and end with their socket."""

    def open(self, _broadcaster_id: str) -> dict[str, SubscriptionRow]:
        return {}

    def close(self, _broadcaster_id: str) -> None:
        pass


def build(service: Service, settings: TwitchSettings) -> StreamService:
    """Serve Twitch, and return what chat commands ask of it. The settings have all credentials."""
    assert settings.twitch_app
    assert settings.bot_user_id
    log, db, bot_user_id = service.log, service.database, settings.bot_user_id
    keyring = Keyring(settings)
    tokens = Tokens(db, "twitch_tokens", keyring, log=log, spare=service.bus.client)
    twitch = TwitchAPI(settings.twitch_app, tokens, service.providers, shared_bridge())
    known = Streams(db)
    channels = ChannelService(db, tokens, known, log)
    streams = StreamService(twitch, known, consent_url=settings.redirect_url.removesuffix("/callback"))
    accounts = AccountService(twitch, channels, bot_user_id=bot_user_id, log=log)
    moderation = ModerationService(twitch, bot_user_id=bot_user_id, bot_login=accounts.bot_login, log=log)
    bot = BotService(twitch, bot_user_id=bot_user_id, log=log)
    by_socket = settings.eventsub_transport == "websocket"
    collector = Collector(
        service,
        EVENTS,
        translate=Translator(bot_user_id),
        send=bot.send,
        act=moderation.act,
        pace=_pace(service, settings, channels),
        echo_in=lambda entity_id: entity_id,
        intake="service" if settings.eventsub_transport == "webhook" else "worker",
    )
    assert collector.pacer is not None
    bot.wait_for_turn = collector.pacer.more
    collector.liveness.on_deaf = lambda entity_id: channels.recheck([parse_entity_id(entity_id).channel_id])
    notifications = NotificationService(collector, channels, bot_user_id=bot_user_id)
    subscriptions: SubscriptionService | None = None
    opener: Opener = SocketOpener()
    if by_socket:
        claims = _hold_sockets(service, settings, twitch, channels, collector, notifications)
    else:
        conduit = ConduitService(twitch, service.database, shard_count=settings.conduit_shards, log=service.log)
        subscriptions = _subscriptions(twitch, channels, settings, conduit, service)
        opener = AppOpener(twitch, subscriptions)
        claims = _keep_subscriptions(service, settings, collector, subscriptions, twitch)
        if settings.eventsub_transport == "conduit":
            _hold_shards(service, settings, twitch, conduit, collector, notifications)
        if settings.webhook_secret:  # Beside a conduit for what is on its way while the transport is changed.
            secret = settings.webhook_secret.get_secret_value().encode()
            service.mount(webhook, using=[WebhookService(collector, notifications, secret=secret)])
    _look_after(service, claims, twitch, channels, accounts)
    service.loops.add(
        "follows",
        lambda: streams.find_out_follows([each.entity_id for each in claims.held.values()]),
        every_s=LOOK_EVERY_S,
        kind="worker",
    )
    service.loops.add("old-follows", known.forget_old_follows, every_s=SWEEP_EVERY_S, kind="worker", once=True)
    oauth = _oauth(service, settings, keyring, twitch, channels, accounts, opener, collector.liveness)
    pages = ConsentPages(auth_base_url=settings.auth_base_url)
    service.mount_static(pages.look.statics)
    service.mount(auth, using=[AuthDesk(oauth, pages, accounts)])
    desk = TwitchDesk(settings, twitch, subscriptions, moderation, accounts)
    news = RoleNews("twitch", db, service.client, service.bus.client, log)
    service.loops.add("role-news", news.step, every_s=5.0, kind="both", wake=news.wake)
    roles = RoleService(twitch, news, log)
    look = RoleLook("twitch", db, news, log, roles.list_people)
    service.loops.add("role-look", look.step, every_s=LOOK_AT_ROLES_S, kind="worker", once=True)
    shoutouts = ShoutoutQueue(twitch, db, bot_user_id=bot_user_id, log=log)
    service.loops.add("shoutouts", shoutouts.step, every_s=LOOK_EVERY_S, kind="worker", once=True)
    service.mount(api_controller, using=[desk, accounts, channels, ActivityService(db), roles, shoutouts, oauth])
    return streams


def _pace(service: Service, settings: TwitchSettings, channels: ChannelService) -> Pace:
    """What the account may say everywhere; in a channel where it moderates Twitch counts by itself, and more."""
    moderated: Cache[str, bool] = service.bus.cache("twitch-moderates", ttl_s=MODERATES_TTL_S)

    def moderates(entity_id: str) -> bool:
        return moderated.get(entity_id, lambda _fresh: channels.bot_moderates(parse_entity_id(entity_id).channel_id))

    return Pace(
        key=lambda entity_id: entity_id if moderates(entity_id) else "account",
        limit=lambda entity_id: max(settings.send_limit, MODERATORS_LIMIT if moderates(entity_id) else 0),
        per_s=SEND_WINDOW_S,
    )


def _subscriptions(
    twitch: TwitchAPI, channels: ChannelService, settings: TwitchSettings, conduit: ConduitService, service: Service
) -> SubscriptionService:
    assert settings.bot_user_id
    place: Place = ConduitPlace(settings.callback_url, conduit)
    if settings.eventsub_transport == "webhook":
        assert settings.webhook_secret
        place = WebhookPlace(settings.callback_url, settings.webhook_secret.get_secret_value(), conduit)
    return SubscriptionService(
        twitch,
        channels,
        place=place,
        bot_user_id=settings.bot_user_id,
        log=service.log,
    )


def _keep_subscriptions(
    service: Service,
    settings: TwitchSettings,
    collector: Collector,
    subscriptions: SubscriptionService,
    twitch: TwitchAPI,
) -> Claims:
    claims = collector.claim(
        gained=_nothing, lost=_nothing, max_claims=settings.claims_at_most, container_id=settings.container_id
    )

    def step() -> bool:
        return subscriptions.step([each.channel_id for each in claims.held.values()])

    def sweep() -> None:
        twitch.run(subscriptions.sweep())

    def check_callback() -> str:
        if settings.callback_url.startswith("https://"):
            return settings.callback_url
        raise UpstreamError(
            f"Twitch delivers over https only, not to {settings.callback_url}. Set TWITCH_WEBHOOK_CALLBACK_URL,"
            " or TWITCH_EVENTSUB_TRANSPORT=websocket or conduit, which need no address."
        )

    is_conduit = settings.eventsub_transport == "conduit"
    if not is_conduit:
        service.check("callback", check_callback)
    if is_conduit or settings.callback_url.startswith("https://"):
        service.loops.add("subscriptions", step, every_s=LOOK_EVERY_S, kind="worker")
        service.loops.add("sweep", sweep, every_s=SWEEP_EVERY_S, kind="worker", once=True)
    return claims


def _hold_sockets(
    service: Service,
    settings: TwitchSettings,
    twitch: TwitchAPI,
    channels: ChannelService,
    collector: Collector,
    notifications: NotificationService,
) -> Claims:
    sockets = WebSocketService(twitch, channels, collector, notifications, url=settings.websocket_url, log=service.log)
    service.check("sockets", sockets.check)
    service.loops.add("sockets", sockets.step, every_s=LOOK_EVERY_S, kind="worker")
    return collector.claim(
        gained=sockets.gained,
        lost=sockets.lost,
        max_claims=settings.claims_at_most,
        container_id=settings.container_id,
    )


def _hold_shards(
    service: Service,
    settings: TwitchSettings,
    twitch: TwitchAPI,
    conduit: ConduitService,
    collector: Collector,
    notifications: NotificationService,
) -> None:
    # Another name than the channels' holder has: what is released or renewed is all that a name holds.
    container_id = f"{settings.container_id or collector.holder}/shards"
    shards = ShardService(
        twitch,
        conduit,
        collector,
        notifications,
        url=settings.websocket_url,
        container_id=container_id,
        log=service.log,
    )
    shards.claims = Claims(
        service.router,
        service.database,
        platform=collector.platform,
        container_id=container_id,
        max_claims=0,
        gained=shards.gained,
        lost=shards.lost,
        log=service.log,
        alive_for_s=SHARDS_ALIVE_FOR_S,
        kind="shard",
    )
    loops = service.loops
    loops.add("conduit", shards.check_bound, every_s=CHECK_EVERY_S, kind="worker")
    loops.add("shards", shards.step, every_s=shards.claims.every_s, kind="worker", finish=shards.finish)
    service.check("conduit", conduit.check)
    service.check("subscription-costs", conduit.check_costs)
    service.metrics.registry.register(ConduitMetrics(conduit, service.metrics.module))


def _look_after(
    service: Service, claims: Claims, twitch: TwitchAPI, channels: ChannelService, accounts: AccountService
) -> None:
    live = LiveService(twitch, channels)
    loops = service.loops
    loops.add("live", lambda: live.step(claims), every_s=LOOK_EVERY_S, kind="worker")
    loops.add("validate", accounts.validate_some, every_s=60.0, kind="worker")
    loops.add("purge", channels.purge, every_s=PURGE_EVERY_S, kind="worker", once=True)
    loops.add("bot-profile", accounts.learn_bot, every_s=3600.0, kind="both")
    service.check("consent", twitch.tokens.check_all)
    service.check("troubles", channels.check)


def _oauth(
    service: Service,
    settings: TwitchSettings,
    keyring: Keyring,
    twitch: TwitchAPI,
    channels: ChannelService,
    accounts: AccountService,
    opener: Opener,
    liveness: Liveness,
) -> OAuthService:
    assert settings.bot_user_id
    secure = settings.redirect_url.startswith("https://")
    return OAuthService(
        twitch,
        service.database,
        service.bus,
        service.router,
        keyring,
        states=OAuthStates(service.database, "twitch", path="/twitch/auth", secure=secure),
        channels=channels,
        accounts=accounts,
        opener=opener,
        transport=settings.eventsub_transport,
        redirect_url=settings.redirect_url,
        bot_user_id=settings.bot_user_id,
        liveness=liveness,
        log=service.log,
    )


def _nothing(_: ClaimedEntity) -> None:
    """A webhook has nothing to open or close; the loops look at what is held."""
