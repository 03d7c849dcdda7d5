"""Telling Kong of keys that the broker did not make."""

from __future__ import annotations

from typing import Any

from waddlebot.base.contracts import Attributed
from waddlebot.base.settings import Secret
from waddlebot.web.auth import PORTAL_ONLY, Account
from waddlebot.web.endpoint import RawRequest, endpoint

from ..services.program_keys import ProgramKeys
from .doors import OWN, Desk, at_both_doors, origin


class ProgramKey(Attributed):
    """The key itself, which is kept nowhere here."""

    api_key: Secret


@endpoint("POST", f"{OWN}/programs", caller=PORTAL_ONLY, area="settings", body=ProgramKey)
def admit_program(new: ProgramKey, caller: Account, request: RawRequest, programs: ProgramKeys) -> dict[str, Any]:
    """Let a key of a community's program in at the gateway. `gateway` says whether there is one."""
    by = origin(request, caller)
    told = programs.admit(new.api_key.get_secret_value(), by, community_id=caller.community_id)
    return {"success": True, "gateway": told}


@at_both_doors("POST", "/kong/keys", body=ProgramKey)
def admit_key(
    new: ProgramKey, caller: Account, request: RawRequest, desk: Desk, programs: ProgramKeys
) -> dict[str, Any]:
    """Let a key in at the gateway that was made elsewhere, such as by `waddlebot keys create`."""
    by = desk.enter(caller, request)
    told = programs.admit(new.api_key.get_secret_value(), by, community_id=None)
    return {"success": True, "gateway": told}
