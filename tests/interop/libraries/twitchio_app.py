"""What an author asks Twitch for on TwitchIO, which knows nothing of the simulator but where it is."""

import asyncio
import json
import os

import twitchio
from twitchio.http import Route

Route.BASE = os.environ["TWITCH_API_BASE_URL"].rstrip("/") + "/"
Route.ID_BASE = os.environ["TWITCH_AUTH_BASE_URL"].rstrip("/").removesuffix("oauth2")


async def main():
    client = twitchio.Client(client_id=os.environ["TWITCH_APP_ID"], client_secret=os.environ["TWITCH_APP_SECRET"])
    await client.login(load_tokens=False, save_tokens=False)
    bot, streamer = await client.fetch_users(logins=["waddlebot", "streamer"])
    channel = await client.fetch_channel(streamer.id)
    sent = await streamer.send_message("hello from TwitchIO", sender=bot)
    print(json.dumps({"channel": channel.user.name, "sent": sent.sent}), flush=True)
    await client.close()


asyncio.run(main())
