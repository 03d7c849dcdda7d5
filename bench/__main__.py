"""`make bench`: every benchmark, one after the other, or those that are named."""

import importlib
import sys

EVERYTHING = (
    "startup",
    "command_roundtrip",
    "two_routers",
    "hung_target",
    "local_modules",
    "install_to_answer",
    "string_rules",
    "rate_limits",
    "plain_chat",
    "day_one",
    "roles",
    "labels",
    "slow_ai",
    "providers",
    "pages",
    "claims",
    "discord_channels",
    "overlay_fanout",
    "chaos",
    "twitch_intake",
    "twitch_channels",
    "idle",
    "twitchio",
    "twitch_chaos",
    "slack_channels",
    "marketplace",
)

if __name__ == "__main__":
    if unknown := [name for name in sys.argv[1:] if name not in EVERYTHING]:
        sys.exit(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(EVERYTHING)}.")
    for name in sys.argv[1:] or EVERYTHING:
        importlib.import_module(f"bench.{name}").main()
