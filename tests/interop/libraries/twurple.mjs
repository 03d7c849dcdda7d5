// A bot as its author would write one, on twurple, which knows nothing of the simulator but where it is.
import { pathToFileURL } from "node:url";

// They are modules only, which `createRequire` does not find.
const load = (name) => import(pathToFileURL(`${process.env.NODE_LIBRARIES}/node_modules/@twurple/${name}/lib/index.js`));
const { ApiClient } = await load("api");
const { RefreshingAuthProvider } = await load("auth");
const { EventSubWsListener } = await load("eventsub-ws");
const tell = (what) => console.log(JSON.stringify(what));

// Its addresses are fixed, but for the socket's.
const REAL = { "https://api.twitch.tv/helix/": process.env.TWITCH_API_BASE_URL, "https://id.twitch.tv/oauth2/": process.env.TWITCH_AUTH_BASE_URL };
const { fetch } = globalThis;
globalThis.fetch = (url, options) => {
  const [real, ours] = Object.entries(REAL).find(([each]) => `${url}`.startsWith(each));
  return fetch(`${url}`.replace(real, ours), options);
};

const [clientId, clientSecret] = [process.env.TWITCH_APP_ID, process.env.TWITCH_APP_SECRET];
const authProvider = new RefreshingAuthProvider({ clientId, clientSecret });
authProvider.onRefresh((userId) => tell({ refreshed: userId }));
const botId = await authProvider.addUserForToken({ ...JSON.parse(process.env.BOT_TOKEN), expiresIn: 0, obtainmentTimestamp: 0 }, ["chat"]);
const api = new ApiClient({ authProvider });
const streamer = await api.users.getUserByName("streamer");
const channel = await api.channels.getChannelInfoById(streamer.id);
const listener = new EventSubWsListener({ apiClient: api, url: process.env.TWITCH_EVENTSUB_WEBSOCKET_URL });
listener.onSubscriptionCreateSuccess(() => tell({ listening: true }));
listener.onSubscriptionCreateFailure((_, error) => tell({ failed: `${error}` }));
listener.onChannelChatMessage(streamer.id, botId, async (said) => {
  if (said.chatterId === botId) return;
  const sent = await api.asUser(botId, (bot) => bot.chat.sendChatMessage(streamer.id, `you said ${said.messageText}`, { replyParentMessageId: said.messageId }));
  tell({ name: said.chatterName, sent: sent.isSent, heard: said.messageText });
});
listener.start();
tell({ channel: channel.displayName, title: channel.title });
