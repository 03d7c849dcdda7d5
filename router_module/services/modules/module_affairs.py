"""What modules of the fleet ask the router for themselves: whether a text may be said, and to change a setting of
theirs for somebody who may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waddlebot.base.manifest import find_manifest
from waddlebot.data.audit import Acting, acting_as

from ..catalogue.cache_manager import CacheManager
from ..records.announcement_service import ModuleOff
from ..rules.quoted import find_objection
from ..rules.rule_book import RuleBook, StringRule
from .switch_service import Scope, SwitchService


class ModuleAffairs:
    def __init__(self, lookups: CacheManager, book: RuleBook, switches: SwitchService) -> None:
        self._lookups = lookups
        self._book = book
        self._switches = switches

    def find_objection(self, module_name: str, scope: Scope, text: str) -> StringRule | None:
        """The first warn or block rule that a text hits which a module is about to say in a channel. A model can be
        talked into a link, so the filter of links counts too.

        Raises: ModuleOff.
        """
        is_core = find_manifest(module_name) is not None
        catalogue = self._lookups.catalogue(scope.community_id)
        if not catalogue.is_module_on(module_name, scope.entity_id, is_core=is_core):
            raise ModuleOff(f"{module_name} is not switched on there.")
        return find_objection(self._book, scope.community_id, scope.entity_id or "", text, filters=("links",))

    def change_settings(
        self, module_name: str, community_id: int, changes: Mapping[str, Any], *, acting: Acting
    ) -> dict[str, Any]:
        """Set what is named of a community's settings for a module, null for the default. The module says for whom:
        it has let them in, and it is the audit log's word for who acts.

        Raises: as SwitchService.set_module.
        """
        with acting_as(acting):
            return self._switches.change_settings(Scope(community_id), module_name, changes, by=acting.account)
