"""Take what the pages' look borrows from others out of their npm packages: `vendor_look.py FOLDER`, where FOLDER holds
the unpacked `lucide-static` and `@fontsource-variable/inter` as `lucide-static/` and `inter/` (`npm pack`, `tar xzf`).

Writes `icons.svg` and `inter.woff2` and prints the lines of VENDORED.md; nothing is fetched here.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

STATIC = Path(__file__).resolve().parents[1] / "libs" / "waddlebot" / "web" / "static"
ICONS = (
    "arrow-left", "blocks", "check", "chevron-down", "chevron-left", "chevron-right", "chevrons-up-down",
    "circle-check",
    "circle-help", "circle-user", "circle-x", "clock", "coins", "compass", "copy", "download", "external-link", "eye",
    "eye-off", "flask-conical", "gift", "hash", "history", "house", "info", "key-round", "languages",
    "layout-dashboard",
    "list-ordered", "lock", "log-in", "log-out", "mail", "medal", "megaphone", "menu", "message-square", "monitor-play",
    "music", "package", "pause", "pencil", "play", "plus", "radio", "refresh-cw", "regex", "scroll-text", "search",
    "send",
    "settings", "shield", "skip-forward", "star", "store", "sun-moon", "tag", "terminal", "trash-2", "triangle-alert",
    "upload", "user-plus", "users", "x", "zap",
)  # fmt: skip
SYMBOL = (
    '<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75"'
    ' stroke-linecap="round" stroke-linejoin="round">{shapes}</symbol>'
)


def main(packages: Path) -> None:
    lucide, inter = packages / "lucide-static", packages / "inter"
    symbols = [SYMBOL.format(name=name, shapes=shapes(lucide, name)) for name in ICONS]
    sprite = "\n".join(('<svg xmlns="http://www.w3.org/2000/svg">', *symbols, "</svg>\n"))
    (STATIC / "icons.svg").write_text(sprite, encoding="utf-8")
    (STATIC / "inter.woff2").write_bytes((inter / "files" / "inter-latin-wght-normal.woff2").read_bytes())
    for name, package in (("icons.svg", lucide), ("inter.woff2", inter)):
        about = json.loads((package / "package.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
        print(f"| `{name}` | {about['name']} {about['version']} | {about['license']} | `{digest}` |")


def shapes(lucide: Path, name: str) -> str:
    """What an icon is drawn of, without the frame and line breaks."""
    text = (lucide / "icons" / f"{name}.svg").read_text(encoding="utf-8")
    inside = re.search(r"<svg[^>]*>(.*)</svg>", text, re.DOTALL)
    assert inside is not None
    return "".join(line.strip() for line in inside[1].splitlines()).replace(" />", "/>")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
