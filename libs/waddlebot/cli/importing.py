"""`waddlebot import`: another bot's files, handed to the portal of the running fleet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import ConfigError, UserError
from ..fleet.home import Home, NoFleet
from ..module.foreign.reading import MAX_FILE_BYTES
from ..web.http import HTTPClient

TIMEOUT_S = 300.0


class Refused(UserError):
    """The fleet did not take it. Nothing was imported."""

    code = "refused"


def bring(home: Home, source: str, files: Sequence[Path], *, community: str, apply: bool) -> dict[str, Any]:
    """The portal's answer. Raises: NoFleet; Refused with the portal's own words; ConfigError for a file."""
    running, key = home.get_running(), home.console_key()
    if key is None:
        raise NoFleet(f"{home.console_key_path} is gone; the next start of the fleet makes it anew.")
    sent = [{"name": path.name, "content": _text_of(path)} for path in files]
    body = {"source": source, "files": sent, "community_id": community, "apply": apply}
    base = running.environment.get("PORTAL_URL") or running.url
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    raw = json.dumps(body).encode()
    response = HTTPClient().request("POST", f"{base}/portal/imports", body=raw, headers=headers, timeout_s=TIMEOUT_S)
    answer: dict[str, Any] = response.json()
    if response.status != 200:
        raise Refused(answer.get("error", {}).get("message"))
    return answer


def _text_of(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: a file has at most {MAX_FILE_BYTES // 1_000_000} MB.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        line = path.read_bytes()[: err.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text. Nothing was imported.") from err
