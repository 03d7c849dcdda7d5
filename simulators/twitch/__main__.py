"""`python -m simulators.twitch`: a Twitch in a process of its own."""

from __future__ import annotations

import argparse
import threading

from .simulator import BOT_USER_ID, CLIENT_ID, CLIENT_SECRET, WEBHOOK_SECRET, TwitchSimulator


def main() -> None:
    parser = argparse.ArgumentParser(prog="simulators.twitch", description="A local Twitch on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--callback", help="where /twitch/webhook really is, whatever the fleet calls it")
    parser.add_argument("--secret", default=WEBHOOK_SECRET, help="TWITCH_WEBHOOK_SECRET")
    parser.add_argument("--client-id", default=CLIENT_ID, help="TWITCH_APP_ID")
    parser.add_argument("--client-secret", default=CLIENT_SECRET, help="TWITCH_APP_SECRET")
    parser.add_argument("--bot-user-id", default=BOT_USER_ID, help="TWITCH_BOT_USER_ID")
    parser.add_argument("--strict", action="store_true", help="nobody exists or consents by themselves")
    parser.add_argument("--verified", action="store_true", help="enforce the limits on chat, those of a verified bot")
    parser.add_argument("--limited", action="store_true", help="enforce the limits on chat, those of any account")
    parser.add_argument("--no-echoes", action="store_true", help="keep the bot's own messages from coming back")
    parser.add_argument("--points", type=int, default=800, help="of Helix a minute; 0 is no limit")
    given = parser.parse_args()
    simulator = TwitchSimulator(
        callback=given.callback,
        secret=given.secret,
        port=given.port,
        client_id=given.client_id,
        client_secret=given.client_secret,
        bot_user_id=given.bot_user_id,
        strict=given.strict,
    )
    simulator.chat_limits.is_verified = given.verified
    simulator.chat_limits.is_enforced = given.verified or given.limited
    simulator.echoes = not given.no_echoes
    simulator.points.per_min = given.points
    with simulator:
        for name, value in simulator.settings().items():
            print(f"{name}={value}")
        print(flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
