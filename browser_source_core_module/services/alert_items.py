"""What of a community's alerts can be carried to another fleet, with the pictures and sounds that it has uploaded."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import AlertAnimation, AlertPosition, Colour, PlatformName
from waddlebot.base.errors import Conflict, Invalid
from waddlebot.base.terms import Label
from waddlebot.data.database import fetch
from waddlebot.module.portable import Item, Part
from waddlebot.web.auth import Account

from .alert_service import FIELDS, AlertService
from .media_service import MB, MediaService
from .safe_content import is_own

BY = "portal"
# All files of an export together: with the rest they have to fit into one request (contracts, "Export, import, erase").
MAX_CARRIED_BYTES = 9 * MB
Text = Annotated[str, StringConstraints(max_length=500)]
Address = Annotated[str, StringConstraints(max_length=2048)]
Amount = Annotated[float, Field(ge=0, le=1e12)]
EventName = Literal[
    "follow", "subscription", "resub", "subgift", "cheer", "raid", "host", "donation", "boost", "member_join"
]


class MediaItem(Item):
    """A file that was uploaded, in base64; empty where all of them would have been too much for one export."""

    kind: Literal["media"] = "media"
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    content_type: Text
    content: str = ""


class AlertItem(Item):
    """An alert of a community's own. Files of its own are meant by what they contain."""

    kind: Literal["alert"] = "alert"
    event: EventName
    platforms: list[PlatformName] = Field(default_factory=list, max_length=20)
    labels: list[Label] = Field(default_factory=list, max_length=20)
    is_active: bool = True
    min_amount: Amount | None = None
    max_amount: Amount | None = None
    weight: float = Field(1, ge=0, le=1000)
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    text: Text = ""
    chat_message: Annotated[str, StringConstraints(max_length=400)] = ""
    image: Address = ""
    sound: Address = ""
    volume: int = Field(50, ge=0, le=100)
    accent: Colour = ""
    animation: AlertAnimation = "zoom"
    position: AlertPosition = ""
    display_s: float = Field(7, ge=0.1, le=120)


def media_part(files: MediaService) -> Part[MediaItem]:
    def export(db: DAL, community_id: int) -> list[MediaItem]:
        rows = fetch(
            db,
            # The smaller ones first, so that as many as can be are in it.
            "SELECT sha256, content_type, CASE WHEN together <= %s THEN content END AS content FROM ("
            "  SELECT *, sum(size_bytes) OVER (ORDER BY size_bytes, sha256) AS together FROM browser_source_media"
            "  WHERE community_id = %s) AS m ORDER BY sha256",
            (MAX_CARRIED_BYTES, community_id),
        )
        return [MediaItem(**{**row, "content": base64.b64encode(row["content"] or b"").decode()}) for row in rows]

    def put(db: DAL, community_id: int, item: MediaItem, _known: MediaItem | None) -> None:
        if not item.content:
            raise Conflict("The file itself is not in this export, which has room for 9 MB of them. Upload it here.")
        try:
            content = base64.b64decode(item.content, validate=True)
        except binascii.Error as err:
            raise Invalid("content is not base64.", field="content") from err
        added = files.add(db, community_id, content, by=BY)
        if not added["url"].endswith(item.sha256):
            raise Invalid("sha256 is that of another file.", field="sha256")

    return Part(MediaItem, lambda item: item.sha256, export, put, tables=("browser_source_media",))


def alert_part(alerts: AlertService) -> Part[AlertItem]:
    def export(db: DAL, community_id: int) -> list[AlertItem]:
        return [
            AlertItem(**{name: row[name] for name in FIELDS}).of_row(row["id"])
            for row in alerts.list_for(db, community_id)
        ]

    def put(db: DAL, community_id: int, item: AlertItem, known: AlertItem | None) -> str | None:
        wanted: dict[str, Any] = item.model_dump(exclude={"kind"})
        lost = [name for name in ("image", "sound") if not _is_here(db, community_id, wanted[name])]
        wanted |= dict.fromkeys(lost, "")
        if known is None:
            alerts.add(db, community_id, wanted, by=BY)
        else:
            owner = Account(0, BY, frozenset(), community_id=community_id)
            alerts.change(db, known.row_id, None, wanted, owner)
        return f"Without its {' and '.join(lost)}, which is not in this export." if lost else None

    def key(item: AlertItem) -> Any:
        return item.event, item.title, item.text, item.min_amount, item.max_amount, tuple(item.labels)

    return Part(AlertItem, key, export, put, tables=("browser_source_alerts",))


def _is_here(db: DAL, community_id: int, address: str) -> bool:
    """Whether a file is there; what is no file of the community's own is not asked for."""
    if not is_own(address):
        return True
    sql = "SELECT 1 FROM browser_source_media WHERE community_id = %s AND sha256 = %s"
    return bool(fetch(db, sql, (community_id, address.rpartition("/")[2])))
