"""`python -m simulators.demo`: platforms, providers and the page, for a fleet that `waddlebot up --demo` starts."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from waddlebot.fleet.home import Home

from ..youtube import YouTubeSimulator
from .fleet_side import FleetSide, Kept, prepare_database
from .model import make_model, settings_of
from .page import Page
from .platforms import Discord, Platform, Slack, Twitch
from .spotify import Spotify
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
    spotify, model = Spotify(), make_model(given.port)
    youtube = YouTubeSimulator(port=given.port + 4)
    youtube.add_some_songs()
    played = (*platforms, youtube, spotify, model)
    for each in played:
        each.start()
    prepare_database(os.environ["DATABASE_URL"], kept, platforms)
    settings = {name: value for each in played for name, value in each.settings().items()}
    kept.save(kept_path, settings | settings_of(model))
    fleet = FleetSide(
        Home(given.home),
        given.fleet,
        kept,
        own_url=f"http://127.0.0.1:{given.port}",
        overlays_url=os.environ["BROWSER_SOURCE_API_URL"],
        platforms=platforms,
        spotify=spotify,
    )
    asyncio.run(serve_until_told(Page(platforms, timeline, fleet, port=given.port)))
    for each in played:
        each.stop()


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
