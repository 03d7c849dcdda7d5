"""`python -m simulators.slack --events-url http://127.0.0.1:8000/slack/events`."""

from __future__ import annotations

import argparse
import threading

from .simulator import SlackSimulator
from .state import CLIENT_ID, CLIENT_SECRET, SIGNING_SECRET, TEAM_ID


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Slack on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--events-url", required=True, help="where /slack/events is; /slack/slash is beside it")
    parser.add_argument("--team", default=TEAM_ID, help="the workspace that SLACK_BOT_TOKEN is for")
    parser.add_argument("--signing-secret", default=SIGNING_SECRET)
    parser.add_argument("--client-id", default=CLIENT_ID)
    parser.add_argument("--client-secret", default=CLIENT_SECRET)
    parser.add_argument("--bot-token", default="", help="SLACK_BOT_TOKEN, made up unless given")
    parser.add_argument("--app-token", default="", help="SLACK_APP_TOKEN, made up unless given")
    parser.add_argument("--socket-mode", action="store_true", help="deliver down WebSockets instead of over HTTP")
    given = parser.parse_args()
    simulator = SlackSimulator(
        events_url=given.events_url,
        port=given.port,
        signing_secret=given.signing_secret,
        client_id=given.client_id,
        client_secret=given.client_secret,
        team_id=given.team,
        bot_token=given.bot_token,
        app_token=given.app_token,
        transport="socket" if given.socket_mode else "http",
    )
    with simulator:
        for name, value in simulator.settings(socket_mode=given.socket_mode).items():
            print(f"{name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
