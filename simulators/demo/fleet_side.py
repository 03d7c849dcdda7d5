"""What the demo does in the fleet: its channels in the database, its module at the router, its overlays."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydal import DAL
from waddlebot.base.api_key import make_key
from waddlebot.base.contracts import EventUser
from waddlebot.base.manifest import CHECKOUT
from waddlebot.community.directory import add_server
from waddlebot.community.people import Identity, add_people, link, select_numbers
from waddlebot.data.database import Database, fetch
from waddlebot.fleet.accounts import FleetAccount
from waddlebot.fleet.bootstrap import DEMO, ensure_account
from waddlebot.fleet.home import Home, Secrets, write_private
from waddlebot.module.package import pack_folder

from . import extras
from .platforms import Platform
from .spotify import Spotify

# Who speaks in more than one chat, unless the page is told other names.
CAST = ("Pip", "Suki", "Mona")
EXAMPLES = CHECKOUT / "examples" / "community_modules"
TRY_EVERY_S = 0.25
STILL_THERE_EVERY_S = 60.0
TIMEOUT = ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Kept:
    """What has to be the same when the demo is started again."""

    twitch_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    signing_secret: str = field(default_factory=lambda: secrets.token_hex(16))
    discord_seed: str = field(default_factory=lambda: secrets.token_hex(32))
    discord_token: str = field(default_factory=lambda: f"demo.{secrets.token_urlsafe(24)}")
    slack_bot_token: str = field(default_factory=lambda: f"xoxb-{secrets.token_hex(16)}")
    slack_app_token: str = field(default_factory=lambda: f"xapp-1-{secrets.token_hex(16)}")
    module_key: str = field(default_factory=lambda: make_key()[1])

    @classmethod
    def load(cls, path: Path) -> Kept:
        try:
            return cls(**json.loads(path.read_text())["kept"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, path: Path, settings: Mapping[str, str]) -> None:
        """Keep it beside the settings that the supervisor reads."""
        kept = {name: getattr(self, name) for name in self.__slots__}
        write_private(path, json.dumps({"kept": kept, "settings": dict(settings)}))


def prepare_database(url: str, kept: Kept, platforms: Sequence[Platform]) -> None:
    """Serve the channels in the community `demo`, let the module in, and have the cast be one person each."""
    database = Database(url, pool_size=1)
    with database.transaction() as db:
        for each in (platform.served for platform in platforms):
            add_server(db, each.platform, each.channel, server_id=each.server_id, name=each.name, community=DEMO)
        accounts = Secrets(keys={extras.NAME: kept.module_key})
        ensure_account(db, FleetAccount(extras.NAME, ["services"], extras.NAME), accounts)
        # This Discord begins without the slash commands that the one of another start was told.
        fetch(db, "UPDATE discord_guilds SET commands_hash = '', commands_retry_at = now()")
        for name in CAST:
            _introduce(db, name, [(each.served.platform, each.user_of(name)) for each in platforms])
    database.close()


def _introduce(db: DAL, name: str, accounts: Sequence[Identity]) -> None:
    """Somebody with all their accounts, as if they had linked them. Who was there before is left as they are."""
    if select_numbers(db, accounts):
        return
    now = datetime.now(UTC)
    add_people(
        db, [((platform, id_), EventUser(platform_user_id=id_, display_name=name), now) for platform, id_ in accounts]
    )
    first, *others = sorted(select_numbers(db, accounts).values())
    for each in others:
        link(db, each, first)


class FleetSide:
    """The fleet, as the demo talks to it. `overlays` is empty until everything is in place."""

    def __init__(
        self,
        home: Home,
        url: str,
        kept: Kept,
        *,
        own_url: str,
        overlays_url: str,
        platforms: Sequence[Platform],
        spotify: Spotify,
    ) -> None:
        self._home = home
        self._url = url
        self.overlays_url = overlays_url
        self._kept = kept
        self._own_url = own_url
        self._platforms = platforms
        self._spotify = spotify
        self.webhook_secret = ""
        self.overlays: dict[str, str] = {}
        self._to_install: list[str] = []

    async def run(self, session: ClientSession) -> None:
        """Set the module up as soon as the fleet answers, and keep it known."""
        while not await self._try(self._set_up(session)):
            await asyncio.sleep(TRY_EVERY_S)
        while not await self._try(self._bring_modules(session)):
            await asyncio.sleep(STILL_THERE_EVERY_S)
        while True:
            await asyncio.sleep(STILL_THERE_EVERY_S)
            await self._try(self._stay_known(session))

    async def _set_up(self, session: ClientSession) -> bool:
        await self._register(session)
        console = self._home.console_key() or ""
        switch = f"/router/communities/{DEMO}/modules/{extras.NAME}"
        await self._ask(session, "PUT", switch, {"enabled": True}, console)
        made = await self._ask(session, "POST", f"{self.overlays_url}/admin/tokens", {"community_id": DEMO}, console)
        for platform in self._platforms:
            await platform.install()
        await self._spotify.connect(session, self._url, DEMO, console)
        self.overlays = {name: each["url"] for name, each in made["tokens"].items()}
        return True

    async def _register(self, session: ClientSession) -> None:
        asked = extras.registration(f"{self._own_url}{extras.PATH}")
        answer = await self._ask(session, "POST", "/api/modules/register", asked, self._kept.module_key)
        self.webhook_secret = answer["webhook_secret"]

    async def _bring_modules(self, session: ClientSession) -> bool:
        """Publish the example modules, and install in the demo's community those that were not there before."""
        console = self._home.console_key() or ""
        for folder in sorted(each.parent for each in EXAMPLES.glob("*/module.toml")):
            package = base64.b64encode(pack_folder(folder)).decode()
            published = await self._ask(session, "POST", "/marketplace/modules", {"package": package}, console)
            if not published["duplicate"]:
                self._to_install.append(published["module_id"])
        while self._to_install:
            wanted = {"community_id": DEMO, "module_id": self._to_install[0], "consent": True}
            await self._ask(session, "POST", "/marketplace/install", wanted, console)
            self._to_install.pop(0)
        return True

    async def _stay_known(self, session: ClientSession) -> bool:
        beat = {"module_name": extras.NAME}
        await self._ask(session, "POST", "/api/modules/heartbeat", beat, self._kept.module_key)
        return True

    async def _ask(self, session: ClientSession, method: str, path: str, body: Any, key: str) -> Any:
        url = path if path.startswith("http") else f"{self._url}{path}"
        async with session.request(method, url, json=body, headers={"X-API-Key": key}, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _try(self, work: Any) -> bool:
        try:
            return bool(await work)
        except (ClientError, TimeoutError, OSError, ValueError, KeyError):
            return False
