"""What a community gives for other services, as its owner manages it: what is asked for and kept, never a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waddlebot.base.errors import Invalid, NotFound
from waddlebot.base.module_settings import check_secrets
from waddlebot.community.credentials import Credentials, Kept, NoCredentials
from waddlebot.data.database import Database

from ..catalogue.module_specs import ModuleSpecs, load_module_specs


class UnknownProvider(NotFound):
    """No module of this fleet uses that service."""

    code = "unknown_provider"


@dataclass(frozen=True, slots=True)
class Provider:
    """Another service, and what the modules that use it want together."""

    name: str
    modules: list[dict[str, str]]
    fields: list[str]
    takes_token: bool


class CredentialService:
    def __init__(self, db: Database, credentials: Credentials) -> None:
        self._db = db
        self._credentials = credentials

    def list_providers(self, community_id: int) -> list[dict[str, Any]]:
        """Every service that modules use or that something is kept for: kinds and dates, no secret."""
        with self._db.transaction() as db:
            providers = _providers(load_module_specs(db))
            kept = self._credentials.list_kept(db, community_id)
        names = sorted(providers.keys() | {each.provider for each in kept})
        return [_shown(name, providers.get(name), [each for each in kept if each.provider == name]) for name in names]

    def get_provider(self, community_id: int, name: str) -> dict[str, Any]:
        """Raises: UnknownProvider."""
        found = next((each for each in self.list_providers(community_id) if each["provider"] == name), None)
        if found is None:
            raise UnknownProvider(f"No module here uses {name[:64]}.")
        return found

    def keep(self, community_id: int, name: str, secrets: Mapping[str, str]) -> dict[str, Any]:
        """Keep a provider's secrets instead of those that were there.

        Raises: UnknownProvider; Invalid, naming the field; NotConfigured without a key to seal with.
        """
        with self._db.transaction() as db:
            provider = _providers(load_module_specs(db)).get(name)
            if provider is None:
                raise UnknownProvider(f"No module here uses {name[:64]}.")
            if not provider.fields:
                who = provider.modules[0]["module_name"]
                raise Invalid(f"{name} is connected by consent, on a page of module {who}.", field="secrets")
            check_secrets(provider.fields, secrets)
            stripped = {field: value.strip() for field, value in secrets.items()}
            self._credentials.keep(db, community_id, name, stripped)
        self._credentials.tell(community_id, name)
        return self.get_provider(community_id, name)

    def forget(self, community_id: int, name: str) -> list[str]:
        """Delete what is kept for a provider and say what kinds that was. Raises: NoCredentials."""
        with self._db.transaction() as db:
            kinds = self._credentials.forget(db, community_id, name)
        if not kinds:
            raise NoCredentials(f"Nothing is kept for {name[:64]}.")
        self._credentials.tell(community_id, name)
        return kinds


def _providers(modules: Mapping[str, ModuleSpecs]) -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for module_name, specs in sorted(modules.items()):
        for each in specs.credentials:
            provider = found.get(each.provider) or Provider(each.provider, [], [], takes_token=False)
            found[each.provider] = Provider(
                each.provider,
                [*provider.modules, {"module_name": module_name, "why": each.why}],
                [*provider.fields, *(field for field in each.fields if field not in provider.fields)],
                takes_token=provider.takes_token or not each.fields,
            )
    return found


def _shown(name: str, provider: Provider | None, kept: list[Kept]) -> dict[str, Any]:
    return {
        "provider": name,
        "modules": provider.modules if provider else [],
        "fields": provider.fields if provider else [],
        "takes_token": provider.takes_token if provider else False,
        "kinds": [
            {
                "kind": each.kind,
                "fields": list(each.fields),
                "needs_reauth": each.needs_reauth,
                "reason": each.reason,
                "expires_at": each.expires_at,
                "created_at": each.created_at,
                "updated_at": each.updated_at,
            }
            for each in kept
        ],
    }
