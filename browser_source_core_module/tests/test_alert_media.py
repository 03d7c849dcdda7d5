"""Files for alerts: taken by what they contain, served so that they can be nothing else."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import pytest
from overlay_doubles import Overlay
from waddlebot.data.database import fetch

URL = "/browser/source/admin/media"
MB = 1024 * 1024


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress((b"\0" + b"\xff\x20\x20" * width) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FILES = {
    "image/png": png(),
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(20),
    "image/gif": b"GIF89a" + bytes(20),
    "image/webp": b"RIFF\0\0\0\0WEBPVP8 " + bytes(20),
    "video/webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + bytes(20),
    "video/mp4": b"\0\0\0\x20ftypisom" + bytes(20),
    "audio/mpeg": b"ID3\x04\0" + bytes(20),
    "audio/ogg": b"OggS\0\x02" + bytes(20),
    "audio/wav": b"RIFF\0\0\0\0WAVEfmt " + bytes(20),
}
REFUSED = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "html": b"<!doctype html><script>alert(1)</script>",
    "html behind a gif's first letters": b"GIF89<script>alert(1)</script>",
    "matroska": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska" + bytes(20),
    "avif": b"\0\0\0\x20ftypavif" + bytes(20),
    "text": b"hello",
}


def upload(overlay: Overlay, content: bytes, **options: Any) -> Any:
    return overlay.fleet.request("POST", URL, content, query={"community_id": overlay.bot.slug}, **options)


@pytest.mark.parametrize("content_type", FILES)
def test_a_file_is_what_it_contains_whatever_it_is_called(overlay, content_type):
    answer = upload(overlay, FILES[content_type], headers={"Content-Type": "text/html"})

    assert answer.status == 200, answer.body
    made = answer.json()
    assert made["content_type"] == content_type
    served = overlay.fleet.request("GET", "/browser/media/" + made["url"].rpartition("/")[2], key=None)
    headers = {name.lower(): value for name, value in served.headers.items()}
    assert served.body == FILES[content_type]
    assert headers["content-type"] == content_type and headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"] and "immutable" in headers["cache-control"]


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_that_could_be_a_document_is_refused(overlay, kind):
    assert upload(overlay, REFUSED[kind]).status == 415


def test_a_form_of_a_browser_is_taken_byte_for_byte(overlay):
    content = FILES["image/gif"] + random.Random(1).randbytes(5000) + b"\r\n\r\n--x\r\n"
    body = (
        b'--WaLL\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
        b'--WaLL\r\nContent-Disposition: form-data; name="file"; filename="a.gif"\r\nContent-Type: image/gif\r\n\r\n'
        + content
        + b"\r\n--WaLL--\r\n"
    )

    answer = upload(overlay, body, headers={"Content-Type": "multipart/form-data; boundary=WaLL"})

    assert answer.status == 200, answer.body
    assert overlay.fleet.request("GET", answer.json()["url"].removeprefix("http://waddlebot.test")).body == content
    empty = upload(overlay, b"--WaLL--\r\n", headers={"Content-Type": "multipart/form-data; boundary=WaLL"})
    assert empty.status == 422 and upload(overlay, b"").status == 422


def test_files_have_their_limits(overlay):
    assert upload(overlay, FILES["image/png"] + bytes(5 * MB)).status == 413
    assert upload(overlay, FILES["video/webm"] + bytes(18 * MB)).status == 200
    assert upload(overlay, FILES["video/webm"] + bytes(20 * MB)).status == 413


def test_a_community_has_so_much_room_and_no_more(overlay):
    with overlay.fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO browser_source_media (community_id, sha256, content_type, size_bytes, content)"
            " VALUES (%s, %s, 'image/png', %s, '')",
            (overlay.bot.community_id, "0" * 64, 200 * MB - 10),
        )

    answer = upload(overlay, FILES["image/png"])

    assert answer.status == 409 and answer.json()["error"]["code"] == "no_room"


def test_the_same_file_again_is_the_same_and_one_in_use_stays(overlay):
    request, query = overlay.fleet.request, {"community_id": overlay.bot.slug}
    first, second = (upload(overlay, FILES["image/gif"]).json() for _ in range(2))
    assert first["media_id"] == second["media_id"]

    alert = request("POST", "/browser/source/admin/alerts", {**query, "event": "follow", "image": first["url"]}).json()[
        "alert"
    ]

    assert request("DELETE", f"{URL}/{first['media_id']}", query=query).status == 409
    request("DELETE", f"/browser/source/admin/alerts/{alert['id']}")
    assert request("DELETE", f"{URL}/{first['media_id']}", query=query).status == 200
    assert request("DELETE", f"{URL}/{first['media_id']}", query=query).status == 404
    assert request("GET", URL, query=query).json()["media"] == []


def test_an_alert_takes_only_what_its_own_community_uploaded_and_of_the_right_kind(overlay, fleet):
    theirs = upload(Overlay(fleet.bot()), FILES["image/webp"]).json()["url"]
    sound = upload(overlay, FILES["audio/wav"]).json()["url"]
    body = {"community_id": overlay.bot.slug, "event": "follow"}

    for field, url in (("image", theirs), ("image", sound)):
        answer = fleet.request("POST", "/browser/source/admin/alerts", {**body, field: url})
        assert answer.status == 422 and field in answer.body.decode()
    assert fleet.request("POST", "/browser/source/admin/alerts", {**body, "sound": sound}).status == 200


@pytest.mark.parametrize("name", ["9" * 64, "x", "0" * 63 + "G", "..%2f..%2fetc"])
def test_what_nobody_uploaded_is_not_there(fleet, name):
    assert fleet.request("GET", f"/browser/media/{name}", key=None).status == 404


def test_files_are_for_those_who_manage_the_community(overlay, fleet):
    key = fleet.make_key(f"m-{overlay.bot.slug}", "api-users", community_id=fleet.bot().community_id)

    assert upload(overlay, FILES["image/png"], key=key).status == 403
    assert upload(overlay, FILES["image/png"], key=None).status == 401
    assert upload(overlay, FILES["image/png"], key="alias").status == 403
