"""An app as its author would write one, on bolt, which knows nothing of the simulator but where it is."""

import json
import os

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

client = WebClient(os.environ["SLACK_BOT_TOKEN"], base_url=os.environ["SLACK_API"])
app = App(client=client, token=os.environ["SLACK_BOT_TOKEN"])


def tell(**what):
    print(json.dumps(what), flush=True)


@app.message("ping")
def ping(message, say):
    said = say(text="pong", blocks=[{"type": "section", "text": {"type": "plain_text", "text": "pong"}}])
    client.chat_update(channel=message["channel"], ts=said["ts"], text="pong again")
    opened = client.conversations_open(users=[message["user"]])
    client.chat_postMessage(channel=opened["channel"]["id"], text="for you alone")
    tell(heard=message["text"])


@app.command("/echo")
def echo(ack, command, respond):
    ack()
    respond(f"you said {command['text']}")
    tell(slash=command["text"])


handler = SocketModeHandler(app, os.environ["SLACK_APP_TOKEN"], web_client=client)
handler.connect()
tell(ready=True)
input()
handler.close()
