"""Finding songs: by words, by link, by id. Nothing is played here, and nothing of a community's is known."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TypeVar

from psycopg2.extras import Json
from waddlebot.base.errors import NotFound, Refused, UserError
from waddlebot.base.youtube_links import VIDEO_ID, Link, looks_like_link, read_link
from waddlebot.data.database import Database
from waddlebot.web.provider import Provider

from .quota import Bucket, QuotaLedger
from .tracks import NotPlayable, Track, Video
from .youtube_api import MOST_IDS, YouTubeAPI, says_used_up

T = TypeVar("T")

MAX_QUERY_CHARS = 200
REGION = re.compile("[A-Z]{2}", re.ASCII)
# A try that hangs leaves time for another one.
MOST_PER_TRY_S = 5.0


class NotSetUp(UserError):
    """This bot has no key for YouTube yet. Its owner sets YOUTUBE_API_KEY; the module's README says how."""

    code = "unconfigured"


class NothingFound(NotFound):
    """There is no such song."""

    code = "nothing_found"


class YouTubeMusicService:
    """Finds songs for all communities; what one has looked for is there for the others."""

    def __init__(
        self,
        database: Database,
        provider: Provider,
        quota: QuotaLedger,
        make_api: Callable[[], YouTubeAPI] | None,
        *,
        region: str,
        max_results: int,
        keep_h: float,
    ) -> None:
        self._database = database
        self._provider = provider
        self._quota = quota
        self._make_api = make_api
        self._region = region
        self._max_results = max_results
        self._keep_h = keep_h
        self._searching: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @cached_property
    def _api(self) -> YouTubeAPI:
        if self._make_api is None:
            raise NotSetUp()
        return self._make_api()

    def check_set_up(self) -> None:
        """Raises: NotSetUp."""
        if self._make_api is None:
            raise NotSetUp()

    def region_of(self, wanted: str) -> str:
        """The country that a community says, or the operator's."""
        wanted = wanted.strip().upper()
        return wanted if REGION.fullmatch(wanted) else self._region

    def find(self, text: str, *, region: str, limit: int, within_s: float) -> list[Track]:
        """The songs that somebody means: one for a link, an id or words, up to `limit` for a link to a list.

        Raises: NotSetUp; NothingFound; NotPlayable; QuotaUsedUp; ProviderError.
        """
        self.check_set_up()
        link = read_link(text)
        if link is None and looks_like_link(text):
            raise NotPlayable("That is no link to a video or playlist on YouTube.")
        if link is not None:
            return self._of_link(link, region=region, limit=limit, within_s=within_s)
        if VIDEO_ID.fullmatch(text):
            found = self.look_up([text], region=region, within_s=within_s)
            if found:
                return [playable(found[0])]
        return [first_playable(self.search(text, region=region, within_s=within_s), text)]

    def search(self, query: str, *, region: str, within_s: float) -> list[Track]:
        """Songs for some words, the likeliest first, those that cannot be played with why. Asked of YouTube once for
        all communities. Raises: NotSetUp; NothingFound; QuotaUsedUp; ProviderError."""
        self.check_set_up()
        key = query_key(query)
        if not key:
            raise NothingFound("Say what to look for.")
        with self._one_at_a_time(f"{region} {key}"):
            found = self._find_kept(key, region)
            if found is None:
                found = self._ask_youtube(key, region, within_s)
        if not found:
            raise NothingFound(f"YouTube knows no song for “{query[:60]}”.")
        return found

    def look_up(self, ids: Sequence[str], *, region: str, within_s: float) -> list[Track]:
        """These videos, in this order; those that are gone are left out."""
        self.check_set_up()
        found: dict[str, Track] = {}
        for first in range(0, len(ids), MOST_IDS):
            part = ids[first : first + MOST_IDS]
            videos = self._ask("units", partial(self._list_videos, part), within_s)
            found |= {video.id: video.as_track(region) for video in videos}
        return [found[each] for each in ids if each in found]

    def forget(self) -> None:
        """Delete what is kept longer than it may be given to anybody."""
        self._database.statement(
            "DELETE FROM youtube_searches WHERE created_at < now() - %s * interval '1 hour'", (self._keep_h,)
        )

    def _of_link(self, link: Link, *, region: str, limit: int, within_s: float) -> list[Track]:
        if link.video_id:
            found = self.look_up([link.video_id], region=region, within_s=within_s)
            if not found:
                raise NotPlayable("That video is private, or was taken down.")
            return [playable(found[0]).starting_at(link.start_s)]
        ids = self._ask(
            "units", lambda timeout_s: self._api.playlist(link.list_id, limit=limit, timeout_s=timeout_s), within_s
        )
        found = self.look_up(ids, region=region, within_s=within_s) if ids else []
        tracks = [each for each in found if not each.refusal]
        if not tracks:
            raise NotPlayable("There is nothing in that playlist that can be played.")
        return tracks

    def _list_videos(self, ids: Sequence[str], timeout_s: float) -> list[Video]:
        return self._api.videos(ids, timeout_s=timeout_s)

    def _ask_youtube(self, key: str, region: str, within_s: float) -> list[Track]:
        ids = self._ask(
            "searches",
            lambda timeout_s: self._api.search(key, region=region, limit=self._max_results, timeout_s=timeout_s),
            within_s,
        )
        found = self.look_up(ids, region=region, within_s=within_s) if ids else []
        self._database.statement(
            "INSERT INTO youtube_searches (query_key, region, results) VALUES (%s, %s, %s)"
            " ON CONFLICT (query_key, region) DO UPDATE SET results = excluded.results, created_at = now()",
            (key, region, Json([each.as_json() for each in found])),
        )
        return found

    def _find_kept(self, key: str, region: str) -> list[Track] | None:
        rows = self._database.statement(
            "SELECT results FROM youtube_searches WHERE query_key = %s AND region = %s"
            " AND created_at > now() - %s * interval '1 hour'",
            (key, region, self._keep_h),
        )
        return [Track.of(each) for each in rows[0]["results"]] if rows else None

    def _ask(self, bucket: Bucket, ask: Callable[[float], T], within_s: float) -> T:
        """Raises: QuotaUsedUp; ProviderError."""
        self._quota.take(bucket)
        try:
            return self._provider.look_up(lambda left_s: ask(min(left_s, MOST_PER_TRY_S)), within_s=within_s)
        except Refused as err:
            if says_used_up(err):
                raise self._quota.note_used_up(bucket) from err
            raise

    @contextmanager
    def _one_at_a_time(self, key: str) -> Iterator[None]:
        """Let one thread ask for something; the others find what it has found."""
        with self._lock:
            lock = self._searching.setdefault(key, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._searching.pop(key, None)


def query_key(query: str) -> str:
    """Words as they are looked for: case, spacing and Unicode form do not matter."""
    return unicodedata.normalize("NFKC", " ".join(query.split())).casefold()[:MAX_QUERY_CHARS]


def playable(track: Track) -> Track:
    """Raises: NotPlayable, with why."""
    if track.refusal:
        raise NotPlayable(f"“{track.shown}” {track.refusal}.")
    return track


def first_playable(found: Sequence[Track], query: str) -> Track:
    """Raises: NotPlayable when none of them is."""
    for each in found:
        if not each.refusal:
            return each
    raise NotPlayable(f"Nothing of what YouTube knows for “{query[:60]}” can be played here.")


__all__ = ["NotSetUp", "NothingFound", "YouTubeMusicService", "playable"]
