"""What the tests of all modules want to know of this one."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.request import urlopen

from waddlebot.data.database import fetch, fetch_one

PREFIX = "/youtube"
CARRIED = 2
VIDEO = "doors-song0"


def at() -> Any:
    return lambda w: {"query": {"community_id": w.mine.slug}}


SAMPLES: dict[str, Any] = {
    "GET /youtube/queue": at(),
    "GET /youtube/now-playing": at(),
    "GET /youtube/history": at(),
    "GET /youtube/stats": at(),
    "POST /youtube/play": lambda w: {"body": {"community_id": w.mine.slug, "video_id": VIDEO}},
    "POST /youtube/skip": lambda w: {"body": {"community_id": w.mine.slug, "track_id": play(w)}},
    "POST /youtube/stop": lambda w: {"body": {"community_id": w.mine.slug, "track_id": play(w)}},
}


def furnish(_world: Any) -> dict[str, Any]:
    """A video that YouTube knows."""
    body = json.dumps({"add": {"title": "A Song", "video_id": VIDEO}}).encode()
    with urlopen(f"{os.environ['YOUTUBE_API_ENDPOINT']}/control", data=body, timeout=5) as answer:
        return {"video_id": json.load(answer)["video_id"]}


def play(world: Any) -> str:
    """Something plays in the community."""
    with world.fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO youtube_players (community_id) VALUES (%s) ON CONFLICT DO NOTHING",
            (world.mine.community_id,),
        )
        row = fetch_one(
            db,
            "INSERT INTO youtube_now_playing (community_id, track_id, video_id, title, duration)"
            " VALUES (%s, 'doors', %s, %s, 10) ON CONFLICT (community_id) DO UPDATE SET track_id = 'doors'"
            " RETURNING track_id",
            (world.mine.community_id, VIDEO, world.mine.slug),
        )
    assert row is not None
    return str(row["track_id"])


def carry(bot: Any) -> None:
    """A playlist and a video that is not played, and everywhere somebody who may want to be forgotten."""
    robin = f"robin-{bot.slug}"
    with bot.fleet.database.transaction() as db:
        row = fetch_one(db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (robin,))
        assert row is not None
        them = {"community": bot.community_id, "own": row["user_id"], "name": robin}
        for sql in (
            "INSERT INTO youtube_playlists (community_id, name, name_key, own_id)"
            " VALUES (%(community)s, 'Chill Out', 'chill out', %(own)s)",
            "INSERT INTO youtube_playlist_tracks (playlist_id, video_id, title, artist, duration, own_id)"
            " SELECT id, 'aaaaaaaaaaa', 'A Song', 'A Band', 100, %(own)s FROM youtube_playlists"
            " WHERE community_id = %(community)s",
            "INSERT INTO youtube_blocked (community_id, video_id, title, own_id)"
            " VALUES (%(community)s, 'bbbbbbbbbbb', 'Polka', %(own)s)",
            "INSERT INTO youtube_players (community_id) VALUES (%(community)s)",
            "INSERT INTO youtube_now_playing (community_id, track_id, video_id, title, duration, requested_by, own_id)"
            " VALUES (%(community)s, 't', 'aaaaaaaaaaa', 'A Song', 100, %(name)s, %(own)s)",
            "INSERT INTO youtube_queue (community_id, video_id, title, duration, requested_by, own_id)"
            " VALUES (%(community)s, 'ccccccccccc', 'Another', 100, %(name)s, %(own)s)",
            "INSERT INTO youtube_skip_votes (community_id, track_id, own_id) VALUES (%(community)s, 't', %(own)s)",
            "INSERT INTO youtube_history (community_id, track_id, video_id, title, duration, requested_by, own_id,"
            " outcome) VALUES (%(community)s, 's', 'ddddddddddd', 'Old', 100, %(name)s, %(own)s, 'played')",
            "INSERT INTO youtube_search_cache (community_id, user_id, query, results)"
            " VALUES (%(community)s, %(own)s, 'songs', '[]')",
            "INSERT INTO youtube_activity (community_id, user_id, action, details)"
            " VALUES (%(community)s, %(own)s, 'search', '{}')",
        ):
            fetch(db, sql, them)
