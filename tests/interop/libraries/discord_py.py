"""A bot as its author would write one, on discord.py, which knows nothing of the simulator but where it is."""

import asyncio
import io
import json
import os

import discord
import yarl
from discord import app_commands

discord.http.Route.BASE = os.environ["DISCORD_API"] + "/v10"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["DISCORD_GATEWAY"])
intents = discord.Intents.default()
intents.members = intents.message_content = True
client = discord.Client(intents=intents)
discord.utils.setup_logging()
tree = app_commands.CommandTree(client)


def tell(**what):
    print(json.dumps(what), flush=True)


@tree.command(description="Say it back")
async def echo(interaction: discord.Interaction, text: str):
    await interaction.response.send_message(f"you said {text}")
    tell(slash=text)


@client.event
async def on_ready():
    guild = client.guilds[0]
    tree.copy_global_to(guild=guild)
    synced = await tree.sync(guild=guild)
    channel = guild.text_channels[0]
    file = discord.File(io.BytesIO(b"pixels"), "picture.png")
    sent = await channel.send("look", embed=discord.Embed(title="A card", description="of words"), file=file)
    edited = await sent.edit(content="look again")
    read = await channel.fetch_message(sent.id)
    history = [each.content async for each in channel.history(limit=10)]
    thread = await read.create_thread(name="About it")
    below = await thread.send("below")
    by_number = await guild.query_members(user_ids=[guild.owner_id, 1])
    by_name = await guild.query_members("own")
    tell(
        commands=[each.name for each in synced],
        attachment=sent.attachments[0].filename,
        embed=read.embeds[0].title,
        edited=[edited.content, read.content, read.edited_at is not None],
        history=history,
        thread=[thread.name, thread.parent_id == channel.id, below.channel.id == thread.id],
        members=[[each.id for each in by_number], [each.name for each in by_name]],
    )


@client.event
async def on_message(message):
    if message.content == "stop":
        await client.close()


asyncio.run(client.start(os.environ["DISCORD_TOKEN"]))
