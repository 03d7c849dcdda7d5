"""Files for alerts: taken from who manages a community, and served to the pages."""

from __future__ import annotations

import re
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Strict
from waddlebot.base.errors import Invalid
from waddlebot.community.communities import community_of
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANYBODY, Account
from waddlebot.web.endpoint import Raw, RawRequest, endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.media_service import MAX_BYTES, MAX_COMMUNITY_BYTES, MediaService

# The largest file, with what a form puts around it.
MAX_UPLOAD_BYTES = max(MAX_BYTES.values()) + 64 * 1024
# Whatever a file claims to be, it is never a document that runs anything; and it never changes.
HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";]{1,70})"?', re.IGNORECASE)


class MediaQuery(Strict):
    community_id: str | None = None


@endpoint(
    "POST",
    "/browser/source/admin/media",
    caller=ADMINS_OR_API_USERS,
    area="overlays",
    query=MediaQuery,
    max_body_bytes=MAX_UPLOAD_BYTES,
    pool="api",
)
def add_media(query: MediaQuery, request: RawRequest, caller: Account, db: DAL, files: MediaService) -> dict[str, Any]:
    """Take a picture, video or sound: the body is the file, or a form with one. Its type is what it contains."""
    community_id = community_of(db, caller, query.community_id)
    return {"success": True, **files.add(db, community_id, _file_in(request), by=caller.name)}


@endpoint("GET", "/browser/source/admin/media", caller=ADMINS_OR_API_USERS, area="overlays", query=MediaQuery)
def list_media(query: MediaQuery, caller: Account, db: DAL, files: MediaService) -> dict[str, Any]:
    """List a community's files, and how much room is left."""
    found = files.list_for(db, community_of(db, caller, query.community_id))
    used = sum(each["size_bytes"] for each in found)
    return whole_list_answer("media", found, used_bytes=used, max_bytes=MAX_COMMUNITY_BYTES)


@endpoint(
    "DELETE",
    "/browser/source/admin/media/<media_id:int>",
    caller=ADMINS_OR_API_USERS,
    area="overlays",
    query=MediaQuery,
)
def delete_media(media_id: int, query: MediaQuery, caller: Account, db: DAL, files: MediaService) -> dict[str, Any]:
    """Delete a file that no alert uses."""
    files.delete(db, community_of(db, caller, query.community_id), media_id, by=caller.name)
    return {"success": True, "media_id": media_id}


@endpoint("GET", "/browser/media/<digest>", caller=ANYBODY, pool="page")
def read_media(digest: str, files: MediaService) -> Raw:
    """Serve a file by the SHA-256 of what is in it."""
    content, content_type = files.read(digest)
    return Raw(content, content_type, headers=HEADERS)


def _file_in(request: RawRequest) -> bytes:
    """The file of a form, or the whole body. Raises: Invalid for a form without one."""
    form = BOUNDARY.match(request.headers.get("content-type", ""))
    if form is None:
        return request.body
    for part in request.body.split(b"\r\n--" + form[1].encode())[:20]:
        head, _, content = part.partition(b"\r\n\r\n")
        if b"filename=" in head:
            return content
    raise Invalid("There is no file in this form.", field="file")
