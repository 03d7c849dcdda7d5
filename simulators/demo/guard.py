"""Keeps other sites out of what listens on this machine for its own browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

OWN_NAMES = ("127.0.0.1", "localhost")


@web.middleware
async def for_this_machine(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what another site makes a browser ask, under its own name or under a name that leads here."""
    if request.host.partition(":")[0] not in OWN_NAMES:
        raise web.HTTPForbidden(text="This is for this machine only.")
    if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
        raise web.HTTPForbidden(text="Only pages from here may ask this.")
    return await handler(request)
