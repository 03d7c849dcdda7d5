"""The YouTube Data API, by Google's own library: one try of one call each. Errors are for `translate`.

developers.google.com/youtube/v3/docs. The library's connections are not for several threads, so every call has one of
its own, which also has the call's own timeout.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from waddlebot.base.errors import Later, ProviderError, Refused, Unclear
from waddlebot.web.http import HTTPResponse, retry_after_s
from waddlebot.web.provider import failure_of

from .tracks import Camel, Video

T = TypeVar("T", bound=BaseModel)

MOST_IDS = 50
USED_UP = frozenset({"quotaExceeded", "dailyLimitExceeded"})
TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
UNAUTHORIZED = 401
BAD_KEY = frozenset({"keyInvalid", "accessNotConfigured", "forbidden", "ipRefererBlocked", "API_KEY_INVALID"})
NO_LIST = frozenset({"playlistNotFound", "playlistItemsNotAccessible"})


class _FoundID(Camel):
    video_id: str = ""


class _Hit(Camel):
    id: _FoundID


class _Hits(Camel):
    items: list[_Hit] = Field(default_factory=list)


class _Videos(Camel):
    items: list[Video] = Field(default_factory=list)


class _Item(Camel):
    content_details: _FoundID = Field(default_factory=_FoundID)


class _Items(Camel):
    items: list[_Item] = Field(default_factory=list)


class YouTubeAPI:
    """Made at first use: the library takes a moment and some memory to load."""

    def __init__(self, api_key: str, *, endpoint: str, version: str, category_id: str) -> None:
        import httplib2
        from googleapiclient import discovery

        # It logs whole addresses, which have the key in them.
        for name in ("googleapiclient.discovery", "googleapiclient.http", "googleapiclient.model"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # What is asked again is the provider's business, which knows the deadline.
        httplib2.RETRIES = 1
        self._http = httplib2.Http
        self._category_id = category_id
        self._service = discovery.build(
            "youtube",
            version,
            developerKey=api_key,
            static_discovery=True,
            cache_discovery=False,
            client_options={"api_endpoint": endpoint.rstrip("/") + "/"},
            http=httplib2.Http(timeout=1),
        )

    def search(self, query: str, *, region: str, limit: int, timeout_s: float) -> list[str]:
        """The ids of songs for some words, the likeliest first."""
        request = self._service.search().list(
            part="snippet",
            q=query,
            type="video",
            videoCategoryId=self._category_id,
            videoEmbeddable="true",
            maxResults=limit,
            regionCode=region,
        )
        hits = self._ask(_Hits, request, timeout_s)
        return [hit.id.video_id for hit in hits.items if hit.id.video_id]

    def videos(self, ids: Sequence[str], *, timeout_s: float) -> list[Video]:
        """What is known of these videos; of those that are gone or private nothing. At most 50."""
        request = self._service.videos().list(part="snippet,contentDetails,status", id=",".join(ids[:MOST_IDS]))
        return self._ask(_Videos, request, timeout_s).items

    def playlist(self, list_id: str, *, limit: int, timeout_s: float) -> list[str]:
        """The ids of the first videos of a playlist."""
        request = self._service.playlistItems().list(
            part="contentDetails", playlistId=list_id, maxResults=min(limit, MOST_IDS)
        )
        return [item.content_details.video_id for item in self._ask(_Items, request, timeout_s).items]

    def _ask(self, kind: type[T], request: Any, timeout_s: float) -> T:
        with closing(self._http(timeout=timeout_s)) as http:
            answer = request.execute(http=http, num_retries=0)
        try:
            return kind.model_validate(answer)
        except ValidationError as err:
            raise Unclear(f"YouTube's answer is none: {err.error_count()} problems") from err


def translate(err: Exception) -> ProviderError | None:
    """What an error of Google's library means. Never its text, which has the key in it."""
    import httplib2
    from googleapiclient.errors import Error, HttpError

    if isinstance(err, HttpError):
        answer = HTTPResponse(int(err.status_code), b"", dict(err.resp))
        return _of_status(answer.status, _reasons(err), wait_s=retry_after_s(answer) or 1.0)
    if isinstance(err, Error | httplib2.HttpLib2Error | ValueError):
        return Unclear(type(err).__name__)
    return None


def _of_status(status: int, reasons: frozenset[str], *, wait_s: float) -> ProviderError | None:
    detail = f"HTTP {status} {' '.join(sorted(reasons))}"
    if reasons & TOO_FAST:
        return Later(detail, status=status, retry_after_s=wait_s)
    if reasons & USED_UP:
        return Refused(detail, status=status, words=sorted(USED_UP)[-1])
    if reasons & BAD_KEY or status == UNAUTHORIZED:
        return Refused(detail, status=status, words="it does not take this bot's key; its owner has to look at that")
    if reasons & NO_LIST:
        return Refused(detail, status=status, words="that playlist is private, or there is none")
    return failure_of(status, words="", detail=detail, retry_after=wait_s)


def _reasons(err: Any) -> frozenset[str]:
    details = err.error_details if isinstance(err.error_details, list) else []
    found = {str(each.get("reason", ""))[:60] for each in details if isinstance(each, dict)}
    # A key that is wrong is a bad request like any other, but for the words.
    if "API key not valid" in str(getattr(err, "reason", "")):
        found.add("API_KEY_INVALID")
    return frozenset(found - {""})


def says_used_up(err: Refused) -> bool:
    return err.words in USED_UP


__all__ = ["MOST_IDS", "YouTubeAPI", "says_used_up", "translate"]
