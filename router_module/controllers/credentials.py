"""What a community gives for other services. Secrets come in here and never go out again."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Strict
from waddlebot.base.module_settings import MAX_SECRET_CHARS
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import OWNERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.modules.credential_service import CredentialService

SecretText = Annotated[str, StringConstraints(max_length=MAX_SECRET_CHARS)]


class NewSecrets(Strict):
    """All of the provider's fields."""

    secrets: Annotated[dict[str, SecretText], Field(min_length=1, max_length=20)] = Field(repr=False)


@endpoint("GET", "/router/communities/<community>/credentials", caller=OWNERS, area="settings")
def list_credentials(
    community: str, caller: Account, database: Database, credentials: CredentialService
) -> dict[str, Any]:
    """List the services that modules use, and what kinds of credentials the community gave for each, and when."""
    found = credentials.list_providers(get_community(database, caller, community))
    return whole_list_answer("credentials", found)


@endpoint("GET", "/router/communities/<community>/credentials/<provider>", caller=OWNERS, area="settings")
def show_credentials(
    community: str, provider: str, caller: Account, database: Database, credentials: CredentialService
) -> dict[str, Any]:
    """Show what kinds of credentials are kept for a service, and since when."""
    found = credentials.get_provider(get_community(database, caller, community), provider)
    return {"success": True, "credentials": found}


@endpoint(
    "PUT", "/router/communities/<community>/credentials/<provider>", caller=OWNERS, area="settings", body=NewSecrets
)
def keep_credentials(
    community: str,
    provider: str,
    new: NewSecrets,
    caller: Account,
    database: Database,
    credentials: CredentialService,
) -> dict[str, Any]:
    """Keep a community's secrets for a service, sealed, instead of those that were there."""
    community_id = get_community(database, caller, community)
    found = credentials.keep(community_id, provider, new.secrets)
    return {"success": True, "credentials": found}


@endpoint("DELETE", "/router/communities/<community>/credentials/<provider>", caller=OWNERS, area="settings")
def forget_credentials(
    community: str,
    provider: str,
    caller: Account,
    database: Database,
    credentials: CredentialService,
) -> dict[str, Any]:
    """Delete a community's secrets and token for a service."""
    community_id = get_community(database, caller, community)
    credentials.forget(community_id, provider)
    return {"success": True, "message": f"Nothing is kept for {provider} any more."}
