"""A TwitchIO 3 bot with two commands, on a Twitch on this machine. Runs in a Python of its own: see twitchio.py."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from twitchio import eventsub, web
from twitchio.eventsub import websockets
from twitchio.ext import commands
from twitchio.http import Route


class Bot(commands.Bot):
    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(
            client_id=given["client_id"],
            client_secret=given["client_secret"],
            bot_id=given["bot_id"],
            prefix="!",
            adapter=web.AiohttpAdapter(
                domain=given["domain"], host="127.0.0.1", port=given["port"], eventsub_secret=given["secret"]
            ),
        )
        self.given = given

    async def setup_hook(self) -> None:
        await self.add_token(self.given["access_token"], self.given["refresh_token"])
        await self.add_component(Answers())

    async def event_ready(self) -> None:
        for channel in self.given["channels"]:
            wanted = eventsub.ChatMessageSubscription(broadcaster_user_id=channel, user_id=self.given["bot_id"])
            if self.given["transport"] == "webhook":
                await self.subscribe_webhook(wanted)
            else:
                await self.subscribe_websocket(wanted, as_bot=True)
        print("ready", flush=True)


class Answers(commands.Component):
    @commands.command()
    async def rules(self, ctx: commands.Context[Bot]) -> None:
        await ctx.reply("Be kind. No spoilers.")

    @commands.command()
    async def inventory(self, ctx: commands.Context[Bot], what: str) -> None:
        await ctx.reply("The inventory is empty." if what == "list" else "?")


async def main() -> None:
    given = json.loads(sys.argv[1])
    Route.BASE = f"{given['url']}/helix/"
    Route.ID_BASE = f"{given['url']}/"
    websockets.WSS = given["url"].replace("http://", "ws://") + "/ws"
    async with Bot(given) as bot:
        await bot.start(load_tokens=False, save_tokens=False)


asyncio.run(main())
