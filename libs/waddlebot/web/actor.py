"""The person behind a request of the portal's: said by the portal, signed, for one request and once (contracts §4).

`X-WaddleBot-Actor: <payload>.<signature>`, both base64url: JSON, and Ed25519's signature of the payload as it
stands in the header.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Self, TypedDict, Unpack
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, StringConstraints, ValidationError

from ..base.contracts import UserId, Wire
from ..base.errors import Busy, ConfigError, NotAllowed
from ..base.manifest import Area, Right

if TYPE_CHECKING:
    import redis

HEADER = "X-WaddleBot-Actor"
# In the environment of a request within one process, which no header can be.
WITHIN = "waddlebot.actor"
NEVER_SENT = "within-one-process"
RIGHTS: tuple[Right, ...] = ("viewer", "editor", "owner", "operator")
LIFETIME_S = 60
# As far as the portal's clock may be ahead of ours.
SKEW_S = 5
MAX_HEADER_CHARS = 4096
NONCES = "waddlebot:actor:"
PRIVATE, PUBLIC = "private", "public"


class BadActor(NotAllowed):
    """That is not said by the portal, not for this request, or not for now."""

    code = "bad_actor"


class Actor(Wire):
    """Who acts, with which right in which area, and the one request that this is said for."""

    login_id: int | str
    own_id: UserId | None = None
    community_id: int | None = None
    right: Right
    area: Area
    method: str
    path: str
    exp: float = Field(allow_inf_nan=False, description="When it ends, s since 1970.")
    nonce: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,128}$")]

    def may(self, right: Right) -> bool:
        return RIGHTS.index(self.right) >= RIGHTS.index(right)


@dataclass(frozen=True, slots=True)
class ActorKey:
    """The pair that actors are signed with, or its public half: only the portal has the private one."""

    public: Ed25519PublicKey
    private: Ed25519PrivateKey | None = None

    @classmethod
    def make(cls) -> Self:
        private = Ed25519PrivateKey.generate()
        return cls(private.public_key(), private)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `private:<base64>` or `public:<base64>`, as WADDLEBOT_ACTOR_KEY has it. Raises: ConfigError."""
        kind, _, encoded = text.partition(":")
        try:
            raw = _decode(encoded)
            if kind == PRIVATE:
                private = Ed25519PrivateKey.from_private_bytes(raw)
                return cls(private.public_key(), private)
            if kind == PUBLIC:
                return cls(Ed25519PublicKey.from_public_bytes(raw))
        except ValueError as err:
            raise ConfigError(f"WADDLEBOT_ACTOR_KEY: {err}.") from err
        raise ConfigError(f"WADDLEBOT_ACTOR_KEY begins with {PRIVATE}: (for the portal) or {PUBLIC}: (for all others).")

    @property
    def private_text(self) -> str:
        """Raises: ConfigError where only the public half is known."""
        if self.private is None:
            raise ConfigError(f"WADDLEBOT_ACTOR_KEY is the {PUBLIC} half; who signs needs the {PRIVATE} one.")
        return f"{PRIVATE}:{_encode(self.private.private_bytes_raw())}"

    @property
    def public_text(self) -> str:
        return f"{PUBLIC}:{_encode(self.public.public_bytes_raw())}"

    def sign(self, actor: Actor) -> str:
        """What goes into the header. Raises: ConfigError where only the public half is known."""
        if self.private is None:
            raise ConfigError(f"WADDLEBOT_ACTOR_KEY is the {PUBLIC} half; who signs needs the {PRIVATE} one.")
        payload = _encode(actor.model_dump_json().encode())
        return f"{payload}.{_encode(self.private.sign(payload.encode()))}"


class About(TypedDict):
    """Who acts, with which right, and for which request; `path` is without the query."""

    login_id: int | str
    community_id: int | None
    right: Right
    area: Area
    method: str
    path: str
    own_id: NotRequired[int | None]


def sign_actor(key: ActorKey, **about: Unpack[About]) -> str:
    """What the portal sends as X-WaddleBot-Actor with one request, within 60 s.

    Raises: ConfigError where only the public half of the key is known.
    """
    return key.sign(Actor(**about, exp=time.time() + LIFETIME_S, nonce=secrets.token_urlsafe(24)))


def actor_within(**about: Unpack[About]) -> dict[str, Any]:
    """What the portal puts into the environment of one request that it makes of its own process. Nothing but code of
    this process can, so nothing is signed, and nobody else can use it again."""
    return {WITHIN: Actor(**about, exp=time.time() + LIFETIME_S, nonce=NEVER_SENT)}


class Actors:
    """Reads what the portal says of who acts. What was read once is refused from then on, in every process."""

    def __init__(self, key: ActorKey | None, client: redis.Redis) -> None:
        self._key = key
        self._redis = client

    def read(self, header: str, *, method: str, path: str) -> Actor:
        """The actor of this request. Raises: BadActor; Busy while Redis, which knows what was used, is away."""
        actor = self.check(self._open(header), method=method, path=path)
        self._use_up(actor)
        return actor

    def check(self, actor: Actor, *, method: str, path: str) -> Actor:
        """Raises: BadActor for one that is not for this request, or not for now."""
        now = time.time()
        if not now < actor.exp <= now + LIFETIME_S + SKEW_S:
            raise BadActor(f"The actor has ended, or is said for more than {LIFETIME_S} s.")
        if actor.method != method or path not in (actor.path, unquote(actor.path)):
            raise BadActor("The actor is of another request: method or path differ.")
        if actor.community_id is None and not actor.may("operator"):
            raise BadActor("Only an operator acts for no community.")
        return actor

    def _open(self, header: str) -> Actor:
        if self._key is None:
            raise BadActor("This service has no WADDLEBOT_ACTOR_KEY, so it takes no actors.")
        payload, dot, signature = header.partition(".")
        if not dot or len(header) > MAX_HEADER_CHARS:
            raise BadActor()
        try:
            self._key.public.verify(_decode(signature), payload.encode())
            return Actor.model_validate_json(_decode(payload))
        except (InvalidSignature, ValidationError, ValueError) as err:
            raise BadActor() from err

    def _use_up(self, actor: Actor) -> None:
        from redis import RedisError  # Late: the supervisor only makes keys, and the client is 17 MB.

        try:
            is_first = self._redis.set(NONCES + actor.nonce, 1, nx=True, ex=LIFETIME_S + 2 * SKEW_S)
        except RedisError as err:
            raise Busy("Nobody can tell whether the actor was used before; try again with another one.") from err
        if not is_first:
            raise BadActor("The actor was used before.")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """Raises: ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except binascii.Error as err:
        raise ValueError("that is not base64url") from err
