"""Pictures, videos and sounds that a community uploads: told by what they contain, kept in the database."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Conflict, Invalid, NotFound, TooLarge, UnsupportedMediaType
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch, fetch_one

MB = 1024 * 1024
MAX_COMMUNITY_BYTES = 200 * MB
MAX_FILES = 1000
MAX_BYTES = {
    "image/png": 5 * MB,
    "image/jpeg": 5 * MB,
    "image/webp": 5 * MB,
    "image/gif": 5 * MB,
    "video/webm": 20 * MB,
    "video/mp4": 20 * MB,
    "audio/mpeg": 5 * MB,
    "audio/ogg": 5 * MB,
    "audio/wav": 5 * MB,
}
# What a file of each kind begins with; dots stand for lengths. Source: https://mimesniff.spec.whatwg.org/
BEGINNINGS = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF....WEBPVP", re.DOTALL)),
    ("audio/wav", re.compile(rb"RIFF....WAVE", re.DOTALL)),
    ("video/webm", re.compile(rb"\x1a\x45\xdf\xa3.{0,60}webm", re.DOTALL)),
    # Of what is built like MP4 only the brands of videos: pictures and songs have their own.
    ("video/mp4", re.compile(rb"\0...ftyp(isom|iso[2-9]|mp4[12]|avc1|dash|M4V |MSNV|mmp4)", re.DOTALL)),
    ("audio/ogg", re.compile(rb"OggS\0")),
    ("audio/mpeg", re.compile(rb"ID3[\x02-\x04]|\xff[\xf2\xf3\xfa\xfb]", re.DOTALL)),
)
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NoRoom(Conflict):
    """The community's files take up all the room that they have. Delete some first."""

    code = "no_room"


class UnknownMedia(NotFound):
    """There is no such file."""

    code = "unknown_media"


class InUse(Conflict):
    """An alert uses this file. Change the alert first."""

    code = "in_use"


def type_of(content: bytes) -> str:
    """What a file is, by what it begins with. Raises: UnsupportedMediaType for what alerts do not show or play."""
    for content_type, beginning in BEGINNINGS:
        if beginning.match(content):
            return content_type
    raise UnsupportedMediaType("Only PNG, JPEG, WebP, GIF, WebM, MP4, MP3, Ogg and WAV are taken.")


class MediaService:
    def __init__(self, database: Database, log: AAALog, *, base_url: str) -> None:
        self._database = database
        self._log = log
        self._base_url = base_url.rstrip("/")

    def add(self, db: DAL, community_id: int, content: bytes, *, by: str) -> dict[str, Any]:
        """Keep a file; the same again is the same. Raises: Invalid; UnsupportedMediaType; TooLarge; NoRoom."""
        if not content:
            raise Invalid("There is no file in this request.", field="file")
        content_type = type_of(content)
        if len(content) > MAX_BYTES[content_type]:
            raise TooLarge(f"A file of {content_type} has at most {MAX_BYTES[content_type] // MB} MB.")
        digest = hashlib.sha256(content).hexdigest()
        fetch(db, "SELECT id FROM communities WHERE id = %s FOR UPDATE", (community_id,))
        known = fetch_one(
            db,
            "SELECT id FROM browser_source_media WHERE community_id = %s AND sha256 = %s",
            (community_id, digest),
        )
        if known is None:
            self._check_room(db, community_id, len(content))
            known = fetch_one(
                db,
                "INSERT INTO browser_source_media (community_id, sha256, content_type, size_bytes, content, created_by)"
                " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
                (community_id, digest, content_type, len(content), content, by),
            )
            assert known is not None
            self._log.audit("media_added", community=community_id, user=by, media=known["id"])
        return {
            "media_id": known["id"],
            "url": self._url(digest),
            "content_type": content_type,
            "size_bytes": len(content),
        }

    def list_for(self, db: DAL, community_id: int) -> list[dict[str, Any]]:
        """A community's files, newest first, without what is in them."""
        rows = fetch(
            db,
            "SELECT id AS media_id, sha256, content_type, size_bytes, created_by, created_at FROM browser_source_media"
            f" WHERE community_id = %s ORDER BY id DESC LIMIT {MAX_FILES}",
            (community_id,),
        )
        return [{**row, "url": self._url(row["sha256"])} for row in rows]

    def delete(self, db: DAL, community_id: int, media_id: int, *, by: str) -> None:
        """Raises: UnknownMedia; InUse."""
        row = fetch_one(
            db,
            "SELECT sha256, EXISTS (SELECT 1 FROM browser_source_alerts a WHERE a.community_id = m.community_id"
            " AND '/browser/media/' || m.sha256 IN (a.image, a.sound)) AS is_used"
            " FROM browser_source_media m WHERE community_id = %s AND id = %s FOR UPDATE",
            (community_id, media_id),
        )
        if row is None:
            raise UnknownMedia()
        if row["is_used"]:
            raise InUse()
        fetch(db, "DELETE FROM browser_source_media WHERE id = %s", (media_id,))
        self._log.audit("media_deleted", community=community_id, user=by, media=media_id)

    def read(self, digest: str) -> tuple[bytes, str]:
        """A file and its type. Raises: UnknownMedia."""
        if not DIGEST.fullmatch(digest):
            raise UnknownMedia()
        rows = self._database.statement(
            "SELECT content, content_type FROM browser_source_media WHERE sha256 = %s LIMIT 1", (digest,)
        )
        if not rows:
            raise UnknownMedia()
        return bytes(rows[0]["content"]), rows[0]["content_type"]

    def _url(self, digest: str) -> str:
        return f"{self._base_url}/browser/media/{digest}"

    @staticmethod
    def _check_room(db: DAL, community_id: int, size: int) -> None:
        row = fetch_one(
            db,
            "SELECT count(*) AS files, coalesce(sum(size_bytes), 0)::bigint AS bytes FROM browser_source_media"
            " WHERE community_id = %s",
            (community_id,),
        )
        assert row is not None
        if row["bytes"] + size > MAX_COMMUNITY_BYTES or row["files"] >= MAX_FILES:
            raise NoRoom(f"A community's files have {MAX_COMMUNITY_BYTES // MB} MB together. Delete some first.")
