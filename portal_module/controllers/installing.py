"""What makes a phone or a computer keep the portal as an app."""

from __future__ import annotations

from typing import Any

from waddlebot.base.wire import to_json
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, endpoint
from waddlebot.web.site import Site

# It keeps nothing: pages are private. Browsers ask for one before they offer to install.
WORKER = """self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));
"""


@endpoint("GET", "/portal/manifest.webmanifest", caller=ANYBODY)
def read_manifest(site: Site) -> Raw:
    """How the portal looks as an app."""
    icon = {"src": site.look.statics.url("icon.svg"), "sizes": "any", "type": "image/svg+xml", "purpose": "any"}
    about: dict[str, Any] = {
        "id": "/portal",
        "name": "WaddleBot",
        "short_name": "WaddleBot",
        "start_url": "/portal",
        "scope": "/portal",
        "display": "standalone",
        "background_color": "#0e0f16",
        "theme_color": "#5b38f0",
        "icons": [icon],
    }
    return Raw(to_json(about), "application/manifest+json", headers={"Cache-Control": "no-cache"})


@endpoint("GET", "/portal/sw.js", caller=ANYBODY)
def read_worker() -> Raw:
    """The service worker."""
    headers = {"Cache-Control": "no-cache", "Service-Worker-Allowed": "/portal"}
    return Raw(WORKER, "text/javascript; charset=utf-8", headers=headers)
