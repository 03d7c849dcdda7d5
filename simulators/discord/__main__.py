"""`python -m simulators.discord`: a local Discord that is driven over /_control."""

from __future__ import annotations

import argparse
import threading

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .simulator import APPLICATION_ID, BOT_TOKEN, CLIENT_SECRET, DiscordSimulator


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Discord on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default=BOT_TOKEN, help="DISCORD_BOT_TOKEN")
    parser.add_argument("--application-id", default=APPLICATION_ID, help="DISCORD_APPLICATION_ID")
    parser.add_argument("--client-secret", default=CLIENT_SECRET, help="DISCORD_CLIENT_SECRET")
    parser.add_argument("--seed", help="64 hex digits that the signing key is made of, so that it stays the same")
    parser.add_argument("--interactions-url", help="where /discord/interactions is; without it, the gateway tells")
    parser.add_argument("--guilds", type=int, default=1, help="servers to begin with")
    parser.add_argument("--channels", type=int, default=1, help="text channels in each of them")
    given = parser.parse_args()
    simulator = DiscordSimulator(
        port=given.port,
        token=given.token,
        application_id=given.application_id,
        client_secret=given.client_secret,
        private_key=Ed25519PrivateKey.from_private_bytes(bytes.fromhex(given.seed)) if given.seed else None,
        interactions_url=given.interactions_url,
    )
    with simulator:
        for name, value in simulator.settings().items():
            print(f"{name}={value}", flush=True)
        for number in range(given.guilds):
            guild = simulator.add_guild(f"Server {number + 1}")
            channels = [simulator.add_channel(guild, f"channel-{n + 1}") for n in range(given.channels)]
            print(f"# server {guild.id}: channels {', '.join(each.id for each in channels[:10])}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
