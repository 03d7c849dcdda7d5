"""Where the router shows its key: at modules of this checkout, and at those that the operator names in MODULE_URLS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from waddlebot.base.manifest import Manifest, find_manifest
from waddlebot.web.http import is_below

ROUTER_PORT = 8000
# As many as any fleet has containers' commands.
MAX_KNOWN = 4096


class ModuleAddresses:
    """Says whether an address is a module's own. Whoever is elsewhere is reached as a webhook, without a key."""

    def __init__(self, router_url: str, named: Sequence[tuple[str, str]]) -> None:
        self._router_url = router_url
        self._named = named
        self.are_of = lru_cache(MAX_KNOWN)(self._are_of)

    def _are_of(self, module_name: str, url: str) -> bool:
        manifest = find_manifest(module_name)
        if manifest is not None and url in addresses_of(manifest, self._router_url):
            return True
        return is_below(url, [base for name, base in self._named if name == module_name])


def addresses_of(manifest: Manifest, router_url: str) -> set[str]:
    """Where a module of this fleet may be: in the router's process, beside it, or in its own container."""
    shift = (urlsplit(router_url).port or ROUTER_PORT) - ROUTER_PORT
    bases = {
        router_url,
        f"http://127.0.0.1:{manifest.port + shift}",
        f"http://{manifest.host}:{manifest.port}",
    }
    return {f"{base}{manifest.prefix}/execute" for base in bases} | bases
