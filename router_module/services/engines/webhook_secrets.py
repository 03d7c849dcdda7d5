"""What the calls of modules' webhooks are signed with: one secret for each module, kept sealed."""

from __future__ import annotations

import secrets

from pydal import DAL
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import UpstreamRefused
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch_one

WEBHOOK_SECRETS = "webhook_secrets"
# A secret is reread after this, or at once when it was made anew.
TTL_S = 300.0
SECRET_BYTES = 32


class NoSecret(UpstreamRefused):
    """This module has no secret for its webhooks. Register it again with rotate_webhook_secret."""

    code = "not_configured"


class WebhookSecrets:
    """Secrets in `collector_modules.config`. The module is told its own once, when it is made."""

    def __init__(self, db: Database, bus: Bus, keyring: Keyring) -> None:
        self._db = db
        self._bus = bus
        self._keyring = keyring
        self._known: Cache[str, str] = bus.cache(WEBHOOK_SECRETS, ttl_s=TTL_S)

    @property
    def missing(self) -> list[str]:
        """The settings without which no secret can be kept."""
        return [] if self._keyring.can_seal else ["WADDLEBOT_ENCRYPTION_KEYS"]

    def issue(self, db: DAL, module_name: str, *, rotate: bool) -> str | None:
        """Make a registered module's secret if it has none yet, or anew to `rotate`, and return what was made.

        The caller commits, then calls `forget`.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        made = fetch_one(
            db,
            "UPDATE collector_modules SET config = config || jsonb_build_object('webhook_secret', %s::text)"
            " WHERE module_name = %s AND (%s OR NOT jsonb_exists(config, 'webhook_secret')) RETURNING id",
            (self._keyring.seal(secret, purpose=_purpose(module_name)), module_name, rotate),
        )
        return secret if made else None

    def forget(self, module_name: str) -> None:
        self._bus.invalidate(WEBHOOK_SECRETS, module_name)

    def get(self, module_name: str) -> str:
        """Raises: NoSecret, also when the key that sealed it is gone."""
        return self._known.get(module_name, lambda _fresh: self._load(module_name))

    def _load(self, module_name: str) -> str:
        rows = self._db.statement(
            "SELECT config->>'webhook_secret' AS sealed FROM collector_modules WHERE module_name = %s", (module_name,)
        )
        sealed = rows[0]["sealed"] if rows else None
        if sealed is None:
            raise NoSecret()
        try:
            return self._keyring.open(sealed, purpose=_purpose(module_name))
        except CannotOpen as err:
            raise NoSecret() from err


def _purpose(module_name: str) -> str:
    return f"webhook:{module_name}"
