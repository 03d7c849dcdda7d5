"""From a button to a channel that answers, and back out of it again.

Source: https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/#authorization-code-grant-flow
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from waddlebot.base.contracts import PopulateRequest
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import NotAllowed, NotConfigured, UpstreamError, WaddleBotError
from waddlebot.base.ids import EntityId
from waddlebot.base.logs import AAALog
from waddlebot.collecting.liveness import Liveness
from waddlebot.community.consent import Consenter, Settled, find_user, leave, list_owned, settle, tell
from waddlebot.community.oauth import OAuthStates, Started
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database
from waddlebot.web.clients import RouterClient

from .account_service import AccountService
from .channel_service import ChannelService, SubscriptionRow
from .refusals import CodeRefused
from .subscription_kinds import MODERATION, OWN_CONNECTION, Feature, Transport, bot_scopes, features_for, scopes_of
from .translation import CHAT_MESSAGE
from .twitch_api import TwitchAPI

Purpose = Literal["join", "bot", "leave", "leaving"]

NOT_NOW = "Twitch does not answer just now; this is done by itself within some minutes."
NO_TOKENS_KEPT = "This fleet cannot keep what you would grant: its operator has to set WADDLEBOT_ENCRYPTION_KEYS."


class ConsentDenied(NotAllowed):
    """You did not let the bot in. Nothing was changed."""

    code = "consent_denied"


class NotTheBot(NotAllowed):
    """That is not the bot's account. Nothing was kept."""

    code = "not_the_bot"


class ConsentRefused(UpstreamError):
    """Twitch does not take the code that it sent you back with. Begin again."""

    code, http_status = "code_refused", 400


class Opener(Protocol):
    """Who gives a channel its subscriptions, and takes them away again."""

    def open(self, broadcaster_id: str) -> dict[str, SubscriptionRow]: ...

    def close(self, broadcaster_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """A channel that is served from now on: what works, and what does not and why."""

    home: Settled
    login: str
    name: str
    granted: tuple[Feature, ...]
    missing: tuple[Feature, ...]
    troubles: tuple[str, ...]
    owned: tuple[tuple[str, str], ...]
    is_heard: bool


@dataclass(frozen=True, slots=True)
class BotGranted:
    """The bot's account has granted what it was asked for, or all but these."""

    login: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeaveAsked:
    """Somebody who has proved who they are is asked once more."""

    login: str
    started: Started


@dataclass(frozen=True, slots=True)
class Left:
    login: str
    was_served: bool
    troubles: tuple[str, ...]


Outcome = Joined | BotGranted | LeaveAsked


class OAuthService:
    """Every method runs in a request's thread; no transaction is open while Twitch is asked."""

    def __init__(
        self,
        api: TwitchAPI,
        database: Database,
        bus: Bus,
        router: RouterClient,
        keyring: Keyring,
        *,
        states: OAuthStates,
        channels: ChannelService,
        accounts: AccountService,
        opener: Opener,
        transport: Transport,
        redirect_url: str,
        bot_user_id: str,
        liveness: Liveness,
        log: AAALog,
    ) -> None:
        self._api = api
        self._db = database
        self._bus = bus
        self._router = router
        self._keyring = keyring
        self._states = states
        self._channels = channels
        self._accounts = accounts
        self._opener = opener
        self._transport = transport
        self._redirect_url = redirect_url
        self._bot_user_id = bot_user_id
        self._liveness = liveness
        self._log = log

    @property
    def features(self) -> tuple[Feature, ...]:
        return features_for(self._transport)

    def missing(self, channel: Mapping[str, Any]) -> list[str]:
        """What the bot cannot do in a channel as it is listed, and what cures that, in words."""
        if channel["consent"] == "needs_reauth":
            return ["Twitch takes the consent for this channel no more: connect it again."]
        login, scopes = self._accounts.bot_login(), channel["scopes"]
        _, lacking = _sorted_by_consent(self.features, scopes if channel["consent"] == "granted" else ())
        words = [each.without.format(bot=login) for each in lacking]
        if channel["bot_moderates"] is False:
            words.append(f"The bot is not a moderator: type /mod {login} in the chat, so that it may say more.")
            if not set(MODERATION.scopes) <= set(scopes):
                words.append(MODERATION.without.format(bot=login))
        return words

    def begin(self, purpose: Purpose, *, community: str = "", moderate: bool = False) -> tuple[str, Started]:
        """Where at Twitch to send the browser, and the state that it takes along. Raises: NotConfigured."""
        if not self._keyring.can_seal:
            raise NotConfigured(NO_TOKENS_KEPT, retry_after_s=3600)
        scopes = {
            "join": scopes_of((*self.features, MODERATION) if moderate else self.features),
            "bot": bot_scopes(),
        }.get(purpose, ())
        started = self._states.start({"purpose": purpose, "community": community, "moderate": moderate})
        return self._api.authorize_url(scopes, redirect_uri=self._redirect_url, state=started.state), started

    def finish(self, state: str, cookies: str, *, code: str, error: str) -> Outcome:
        """What comes of it when Twitch has sent the browser back.

        Raises: BadState and its kinds; ConsentDenied; ConsentRefused; NotTheBot; NotYourCommunity; UpstreamError.
        """
        asked = self._states.finish(state, cookies)
        if error or not code:
            raise ConsentDenied(None if error in ("access_denied", "") else f"Twitch says: {error[:100]}.")
        try:
            consent = self._api.run(self._api.exchange(code, redirect_uri=self._redirect_url))
        except CodeRefused as err:
            raise ConsentRefused() from err
        if asked["purpose"] == "join":
            return self._join(consent, asked)
        if asked["purpose"] == "bot":
            return self._take_bot(consent)
        self._revoke(consent.grant.access)
        self._log.auth("leaving_asked", owner=consent.user_id)
        return LeaveAsked(
            consent.login,
            self._states.start({"purpose": "leaving", "user_id": consent.user_id, "login": consent.login}),
        )

    def leave(self, state: str, cookies: str) -> Left:
        """Stop serving the channel of whoever has confirmed it, and delete what is kept of them.

        Raises: BadState and its kinds.
        """
        asked = self._states.finish(state, cookies)
        if asked["purpose"] != "leaving":
            raise NotAllowed("This link is not for leaving.")
        user_id: str = asked["user_id"]
        troubles = [*self._close_at_twitch(user_id)]
        entity = EntityId("twitch", "", user_id)
        with self._db.transaction() as db:
            was_served = leave(db, entity, user_id=find_user(db, "twitch", user_id))
            self._api.tokens.forget(db, user_id)
            self._channels.close(db, user_id)
        tell(self._bus, entity)
        self._liveness.forget([str(entity)])
        self._populate()
        self._log.audit("channel_left", entity_id=str(entity))
        return Left(asked["login"], was_served, tuple(troubles))

    def _join(self, consent: Any, asked: dict[str, Any]) -> Joined:
        name = self._accounts.name_of(consent.user_id, consent.login)
        person = Consenter("twitch", consent.user_id, consent.login, name)
        try:
            with self._db.transaction() as db:
                home = settle(db, person, channel=consent.user_id, name=name, community=asked["community"] or None)
                self._api.tokens.keep(db, consent.user_id, consent.grant)
                self._channels.open(db, consent.user_id, login=consent.login, display_name=name)
                owned = tuple((each["slug"], each["name"]) for each in list_owned(db, home.user_id))
        except WaddleBotError:
            self._revoke(consent.grant.access)
            raise
        tell(self._bus, home.entity, home.user_id)
        self._log.audit("channel_joined", community=home.community_id, user=home.user_id, entity_id=str(home.entity))
        asked_for = (*self.features, MODERATION) if asked["moderate"] else self.features
        granted, missing = _sorted_by_consent(asked_for, consent.grant.scopes)
        self._populate()
        deaf = self._open(consent.user_id, consent.grant.scopes)
        troubles = (*deaf, *self._troubles(consent.user_id))
        return Joined(home, consent.login, name, granted, missing, troubles, owned, is_heard=not deaf)

    def _open(self, broadcaster_id: str, scopes: Collection[str]) -> list[str]:
        """Make the channel answer. Returns in words why its chat cannot be heard, if it cannot."""
        if self._transport == "websocket" and OWN_CONNECTION not in scopes:
            return [f"The bot cannot hear your chat without {OWN_CONNECTION}."]
        try:
            chat = self._opener.open(broadcaster_id).get(CHAT_MESSAGE)
        except UpstreamError:
            return [NOT_NOW]
        if chat is None or not chat.reason:
            return []
        return [f"The bot cannot hear your chat: {chat.reason}. Type /mod {self._accounts.bot_login()} there."]

    def _troubles(self, broadcaster_id: str) -> list[str]:
        """What else stands in the bot's way, in words."""
        troubles: list[str] = []
        if broadcaster_id == self._bot_user_id:
            troubles.append(
                "This is the bot's own account: what you write yourself is taken for what the bot says, and ignored."
                " Give the bot an account of its own."
            )
        elif self._accounts.check_bot_moderates(broadcaster_id) is False:
            troubles.append(
                f"The bot is not a moderator: type /mod {self._accounts.bot_login()} in your chat."
                " Until then Twitch lets it say less, and it may not delete or time out in its own name."
            )
        return troubles

    def _take_bot(self, consent: Any) -> BotGranted:
        if consent.user_id != self._bot_user_id:
            self._revoke(consent.grant.access)
            self._log.auth("bot_consent_refused", result="DENIED", owner=consent.user_id)
            raise NotTheBot(
                f"You are signed in at Twitch as {consent.login}, which is not the bot's account. Nothing was kept."
                " Sign in there as the bot, and begin again."
            )
        with self._db.transaction() as db:
            self._api.tokens.keep(db, consent.user_id, consent.grant)
        self._log.audit("bot_consented", owner=consent.user_id)
        return BotGranted(consent.login, tuple(each for each in bot_scopes() if each not in consent.grant.scopes))

    def _close_at_twitch(self, user_id: str) -> list[str]:
        """Delete subscriptions and token there. Returns what could not be done, for people."""
        token = None
        try:
            token = self._api.tokens.find(user_id)
            self._opener.close(user_id)
        except WaddleBotError:
            self._channels.recheck([user_id])
            troubles = ["Twitch goes on telling us of your channel for up to an hour; all of it is ignored."]
        else:
            troubles = []
        if token is not None and not self._revoke(token.access):
            troubles.append("Twitch could not be told: disconnect the bot in its settings, under Connections.")
        return troubles

    def _revoke(self, access: str) -> bool:
        try:
            self._api.run(self._api.revoke(access))
        except UpstreamError as err:
            self._log.system("token_not_revoked", result="FAILED", why=err.message)
            return False
        return True

    def _populate(self) -> None:
        """Have the channel claimed, or given up, soon instead of within a minute."""
        # A request to this very process may not be made in the thread of another one.
        self._api.bridge.start(asyncio.to_thread(self._populate_now))

    def _populate_now(self) -> None:
        try:
            self._router.coordinate("populate", PopulateRequest(platform="twitch"))
        except UpstreamError as err:
            self._log.system("not_populated", result="FAILED", why=err.message)


def _sorted_by_consent(
    features: Collection[Feature], scopes: Collection[str]
) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """Those features that this consent allows, and those that it does not."""
    granted = tuple(each for each in features if set(each.scopes) <= set(scopes))
    return granted, tuple(each for each in features if each not in granted)
