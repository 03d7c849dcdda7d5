// A bot as its author would write one, on discord.js, which knows nothing of the simulator but where it is.
import { createRequire } from "node:module";

const { Client, EmbedBuilder, Events, GatewayIntentBits, REST, Routes } = createRequire(`${process.env.NODE_LIBRARIES}/`)("discord.js");
const { Guilds, GuildMessages, MessageContent, GuildMembers } = GatewayIntentBits;
const client = new Client({
  intents: [Guilds, GuildMessages, MessageContent, GuildMembers],
  rest: { api: process.env.DISCORD_API, version: "10" },
});
const tell = (what) => console.log(JSON.stringify(what));

client.once(Events.ClientReady, async () => {
  const guild = client.guilds.cache.first();
  const channel = guild.channels.cache.find((each) => each.isTextBased());
  await guild.commands.set([{ name: "echo", description: "Say it back", options: [{ name: "text", description: "What", type: 3, required: true }] }]);
  const files = [{ attachment: Buffer.from("pixels"), name: "picture.png" }];
  const sent = await channel.send({ content: "look", embeds: [new EmbedBuilder().setTitle("A card")], files });
  await sent.edit("look again");
  const read = await channel.messages.fetch({ message: sent.id, force: true });
  const thread = await sent.startThread({ name: "About it" });
  await thread.send("below");
  const members = await guild.members.fetch({ user: [guild.ownerId] });
  tell({
    attachment: sent.attachments.first().name,
    embed: read.embeds[0].title,
    edited: read.content,
    thread: [thread.name, thread.parentId === channel.id],
    members: [...members.keys()].length,
  });
});

client.on(Events.InteractionCreate, async (interaction) => {
  const text = interaction.options.getString("text");
  await interaction.reply(`you said ${text}`);
  tell({ slash: text });
});

client.on(Events.MessageCreate, (message) => {
  if (message.content === "stop") client.destroy();
});

await client.login(process.env.DISCORD_TOKEN);
