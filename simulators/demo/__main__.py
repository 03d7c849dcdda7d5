"""`python -m simulators.demo`: the three platforms, a model and the page, for what `waddlebot up --demo` starts."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from waddlebot.fleet.home import Home

from .fleet_side import FleetSide, Kept, prepare_database
from .model import make_model, settings_of
from .page import Page
from .platforms import Discord, Platform, Slack, Twitch
from .timeline import Timeline


def main() -> None:
    parser = argparse.ArgumentParser(prog="simulators.demo", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the fleet's folder")
    parser.add_argument("--port", type=int, required=True, help="the page's; the platforms are on the ports after it")
    parser.add_argument("--fleet", required=True, help="where the router is")
    parser.add_argument("--twitch", help="where the collector of Twitch is; one that is not given has no chat")
    parser.add_argument("--discord", help="the same for Discord")
    parser.add_argument("--slack", help="the same for Slack")
    given = parser.parse_args()
    timeline, kept_path = Timeline(), given.home / "demo.json"
    kept = Kept.load(kept_path)
    platforms = make_platforms(given, kept, timeline)
    model = make_model(given.port)
    model.start()
    for each in platforms:
        each.start()
    prepare_database(os.environ["DATABASE_URL"], kept, [each.served for each in platforms])
    settings = {name: value for each in platforms for name, value in each.settings().items()}
    kept.save(kept_path, settings | settings_of(model))
    fleet = FleetSide(
        Home(given.home),
        given.fleet,
        kept,
        own_url=f"http://127.0.0.1:{given.port}",
        overlays_url=os.environ["BROWSER_SOURCE_API_URL"],
        platforms=platforms,
    )
    asyncio.run(serve_until_told(Page(platforms, timeline, fleet, port=given.port)))
    for each in platforms:
        each.stop()
    model.stop()


def make_platforms(given: argparse.Namespace, kept: Kept, timeline: Timeline) -> list[Platform]:
    """Those that the fleet has a collector for."""
    makers: list[tuple[str | None, Callable[[], Platform]]] = [
        (
            given.twitch,
            lambda: Twitch(
                timeline.show,
                port=given.port + 1,
                collector=given.twitch,
                secret=kept.twitch_secret,
                client_secret=kept.client_secret,
            ),
        ),
        (
            given.discord,
            lambda: Discord(
                timeline.show,
                port=given.port + 2,
                seed=kept.discord_seed,
                token=kept.discord_token,
                client_secret=kept.client_secret,
            ),
        ),
        (
            given.slack,
            lambda: Slack(
                timeline.show,
                port=given.port + 3,
                events_url=f"{given.slack}/events",
                signing_secret=kept.signing_secret,
                client_secret=kept.client_secret,
                bot_token=kept.slack_bot_token,
                app_token=kept.slack_app_token,
            ),
        ),
    ]
    return [make() for collector, make in makers if collector]


async def serve_until_told(page: Page) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await page.serve(stopping)


if __name__ == "__main__":
    main()
