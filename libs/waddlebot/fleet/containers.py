"""What a fleet of containers needs once: `python -m waddlebot.fleet.containers env` prints an environment file with new
secrets, and `… prepare` brings the schema and makes every account by the keys in its environment.

An account's key is `<ACCOUNT>_WADDLEBOT_API_KEY`, which its module reads as well.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence

from ..base.errors import ConfigError
from ..base.manifest import Manifest, all_manifests
from ..data.database import Database
from ..data.migrate import migrate
from .accounts import fleet_accounts, make_missing_keys
from .bootstrap import bootstrap
from .home import Secrets

# As `waddlebot.web.auth.make_key` makes them.
KEY = re.compile(r"wbot_[A-Za-z0-9]+_\S{20,}")


def key_setting(account: str) -> str:
    """The name of an account's key in the environment."""
    return f"{account.upper()}_WADDLEBOT_API_KEY"


def password_setting(user: str) -> str:
    """The name of a Redis user's password in the environment."""
    return f"{user.upper()}_REDIS_PASSWORD"


def keys_in(environment: Mapping[str, str], manifests: Sequence[Manifest]) -> dict[str, str]:
    """The key of every account. Raises: ConfigError, which names all that are missing or are none."""
    names = {account.name: key_setting(account.name) for account in fleet_accounts(manifests)}
    keys = {account: environment.get(name, "").strip() for account, name in names.items()}
    if wrong := [names[account] for account, key in keys.items() if not KEY.fullmatch(key)]:
        raise ConfigError(
            f"No key of this fleet: {', '.join(wrong)}. Make them with: python -m waddlebot.fleet.containers env"
        )
    return keys


def prepare(environment: Mapping[str, str], *, post: bool = True) -> None:
    """Bring the schema, then the accounts; changes nothing the second time. Without `post` what older code that still
    runs cannot do without stays. Raises: ConfigError."""
    manifests = all_manifests()
    url = environment.get("DATABASE_URL")
    if not url:
        raise ConfigError("DATABASE_URL is not set.")
    made = Secrets(keys=keys_in(environment, manifests))
    migrate(url, post=post)
    database = Database(url)
    with database.transaction() as db:
        bootstrap(db, made, manifests)
    database.close()


def environment_file() -> Iterator[str]:
    """Every secret that a fleet makes for itself, as lines of an environment file."""
    from ..base.api_key import make_key
    from ..web.actor import ActorKey

    manifests = all_manifests()
    made = Secrets()
    make_missing_keys(made, manifests)
    actor_key = ActorKey.parse(made.actor_key)
    yield f"POSTGRES_PASSWORD={made.database_owner_password}"
    yield f"KONG_PG_PASSWORD={made.database_password}"
    yield f"REDIS_PASSWORD={made.redis_password}"
    yield from (f"{password_setting(user)}={password}" for user, password in made.redis_passwords.items())
    yield f"WADDLEBOT_ENCRYPTION_KEYS={made.encryption_keys}"
    yield f"WADDLEBOT_ACTOR_KEY={actor_key.public_text}"
    yield f"PORTAL_WADDLEBOT_ACTOR_KEY={actor_key.private_text}"
    yield f"MODULE_HOST_KEY={made.module_host_key}"
    yield f"BROKER_API_KEY={make_key()[1]}"
    yield f"BROKER_SECRET_KEY={secrets.token_urlsafe(32)}"
    yield from (f"{key_setting(account)}={key}" for account, key in made.keys.items())


def main(arguments: Sequence[str]) -> int:
    try:
        if list(arguments) == ["env"]:
            sys.stdout.writelines(f"{line}\n" for line in environment_file())
        elif list(arguments) == ["prepare"]:
            prepare(os.environ)
        elif list(arguments) == ["prepare-before"]:
            prepare(os.environ, post=False)
        else:
            raise ConfigError("Say env, prepare, or prepare-before where older code still runs.")
    except ConfigError as err:
        print(f"waddlebot: {err.message}", file=sys.stderr)  # noqa: T201 - the only thing that it has to say
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
