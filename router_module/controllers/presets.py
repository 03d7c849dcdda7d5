"""Presets of filters over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from waddlebot.base.contracts import Attributed
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint

from ..services.rules.presets import WEEK_H, Presets

PRESETS = "/router/communities/<community>/filter-presets"


class PresetPreview(Attributed):
    hours: float = Field(WEEK_H, gt=0, le=WEEK_H)


@endpoint("GET", PRESETS, caller=ADMINS_OR_API_USERS, area="rules")
def list_presets(community: str, caller: Account, database: Database, presets: Presets) -> dict[str, Any]:
    """List the sets of filters that can be switched on at once."""
    get_community(database, caller, community)
    return {"success": True, "presets": presets.list()}


@endpoint(
    "POST", f"{PRESETS}/<preset>/preview", caller=ADMINS_OR_API_USERS, area="rules", body=PresetPreview, only_asks=True
)
def preview_preset(
    community: str, preset: str, wanted: PresetPreview, caller: Account, database: Database, presets: Presets
) -> dict[str, Any]:
    """Show what a preset would have done to last week's chat; nothing is switched on."""
    community_id = get_community(database, caller, community)
    return {"success": True, **presets.preview(community_id, preset, hours=wanted.hours)}


@endpoint("POST", f"{PRESETS}/<preset>", caller=ADMINS_OR_API_USERS, area="rules")
def use_preset(community: str, preset: str, caller: Account, database: Database, presets: Presets) -> dict[str, Any]:
    """Switch a preset on, but for kinds of filters that are there already."""
    community_id = get_community(database, caller, community)
    done = presets.use(community_id, preset, by=caller.name)
    return {"success": True, **done}
