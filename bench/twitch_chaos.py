"""kill -9 between webhook and chat: what Twitch was told is taken, and what came of it.

Every message is delivered three times and once more under another delivery id, to processes that are killed one after
the other: the webhook's, the forwarder's and sender's, PostgreSQL, Valkey. What the bot really said is what Twitch has
heard.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections import Counter
from pathlib import Path

import psycopg2
from waddlebot.base.ids import new_id
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.plugin import eventually

from bench.common import RunningFleet, fleet, kill_one_after_another, table, victims
from simulators.twitch import TwitchSimulator

CHANNELS = 20
CHATTERS = 8
SECONDS = 40
KILL_EVERY_S = 2.0
PATIENCE_S = 60.0
# Twitch tries for minutes; so does this, in less of them.
PAUSES_S = (0.2, 0.5, 1, 2, 4, 8, 15)


class Chatter(threading.Thread):
    """Asks for an item after another, each in a channel of its turn, until told to stop."""

    def __init__(self, number: int, twitch: TwitchSimulator, going: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.twitch = twitch
        self.going = going
        self.taken: list[str] = []
        self.given_up: list[str] = []

    def run(self) -> None:
        count = 0
        while self.going.is_set():
            count += 1
            name = new_id()
            # Somebody else after a while, or the limit a minute would be what is measured.
            said = {"chatter": f"c{self.number}-{count // 40}", "badges": ["moderator"], "message_id": name}
            channel, text = str(1 + count % CHANNELS), f"!inventory add {name} x"
            first = self.twitch.chat_message(channel, text, **said)
            accepted = [200 <= self.twitch.deliver(first, pauses_s=PAUSES_S)[-1] < 300]
            for again in (first, first, self.twitch.chat_message(channel, text, **said)):
                accepted.append(200 <= self.twitch.deliver(again, pauses_s=[])[-1] < 300)
            (self.taken if any(accepted) else self.given_up).append(name)


def main() -> None:
    port = free_port()
    twitch = TwitchSimulator(callback=f"http://127.0.0.1:{port}/twitch/webhook")
    twitch.points.per_min = 0  # No limit: everything is to have been said soon after the last message.
    with twitch, tempfile.TemporaryDirectory() as folder:
        os.environ.update({**twitch.settings(), "TWITCH_SEND_LIMIT": "7500"})
        with fleet(home=Path(folder) / "home") as running:
            twitch.callback = f"{running.url}/twitch/webhook"
            serve_channels(running)
            going = threading.Event()
            going.set()
            chatters = [Chatter(number, twitch, going) for number in range(CHATTERS)]
            for chatter in chatters:
                chatter.start()
            killed = kill_one_after_another(lambda: victims(running), SECONDS, KILL_EVERY_S)
            going.clear()
            for chatter in chatters:
                chatter.join()
            taken = [name for chatter in chatters for name in chatter.taken]
            url = running.environment["DATABASE_URL"]
            eventually(lambda: is_settled(url), within_s=PATIENCE_S, what="every reply at its end")
            items = names(url, "SELECT item_name FROM inventory_items")
            states = Counter(names(url, "SELECT state FROM outbox WHERE platform = 'twitch'"))
            unknown = names(url, "SELECT event_id FROM outbox WHERE state IN ('unknown', 'dropped')")
    said = Counter(
        word for each in twitch.messages for word in each.message.replace("“", " ").replace("”", " ").split()
    )
    rows = [
        ("messages that Twitch was told are taken", len(taken)),
        ("never taken", sum(len(chatter.given_up) for chatter in chatters)),
        ("killed", ", ".join(f"{name} {n}" for name, n in sorted(killed.items()))),
        ("replies", ", ".join(f"{state} {n}" for state, n in sorted(states.items()))),
    ]
    table(f"kill -9 every {KILL_EVERY_S:g} s for {SECONDS} s, each message delivered 4 times", ("what", "count"), rows)
    lost = sum(not items[name] or (not said[name] and not unknown[name]) for name in taken)
    doubled = sum(items[name] > 1 or said[name] > 1 for name in taken)
    heard = sum(said[name] > 0 for name in unknown)
    print(f"  lost = {lost}, doubled = {doubled}, unknown = {states['unknown']}, of which Twitch has heard {heard}")


def serve_channels(running: RunningFleet) -> None:
    listed = running.home / "channels.csv"
    lines = [f"twitch,{number},channel{number}" for number in range(1, CHANNELS + 1)]
    listed.write_text("\n".join(["platform,channel,name", *lines]))
    running.cli("servers", "import", str(listed))


def is_settled(url: str) -> bool:
    """Whether nothing is on its way any more."""
    waiting = (
        "SELECT 'event' FROM twitch_events WHERE state IN ('pending', 'forwarding')"
        " UNION ALL SELECT 'command' FROM command_executions WHERE status = 'pending'"
        " UNION ALL SELECT 'reply' FROM outbox WHERE platform = 'twitch' AND state IN ('pending', 'sending')"
    )
    with contextlib.suppress(psycopg2.OperationalError):
        return not names(url, waiting)
    return False


def names(url: str, sql: str) -> Counter[str]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return Counter(row[0] for row in cursor.fetchall())


if __name__ == "__main__":
    main()
