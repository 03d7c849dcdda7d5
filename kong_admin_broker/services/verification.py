"""Links in mails that say that an address is somebody's: signed with BROKER_SECRET_KEY, for 24 hours, once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import time
from dataclasses import dataclass

from waddlebot.base.settings import Secret
from waddlebot.web.mail import Mail

from .user_manager import User

VALID_S = 24 * 3600
# A user's number and when it ends; what makes it work once is in the row, and signed with them.
HEAD = struct.Struct(">QQ")
SUBJECT = "Your account at WaddleBot's gateway"
BODY = """Hello {name},

an account was made for you at the gateway of the WaddleBot at {site}. It opens nothing until you have said that this
address is yours. Open this within a day:

{link}

If you expected nothing of the kind, leave it alone.
"""


@dataclass(frozen=True, slots=True)
class Verification:
    secret: Secret | None
    mail: Mail
    base_url: str

    def make(self) -> str:
        return secrets.token_urlsafe(16)

    def send(self, user: User) -> None:
        """Raises: NotConfigured without a mail server; MailNotSent."""
        assert user.email is not None
        link = f"{self.base_url.rstrip('/')}/broker/verify/{self.token(user.id, user.verification or '')}"
        body = BODY.format(name=user.full_name or user.username, site=self.base_url, link=link)
        self.mail.send(user.email, SUBJECT, body)

    def token(self, user_id: int, nonce: str) -> str:
        head = HEAD.pack(user_id, int(time.time()) + VALID_S)
        raw = head + nonce.encode() + self._sign(head + nonce.encode())
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def read(self, token: str) -> tuple[int, str] | None:
        """Whose it is and what their row has; None for what is none of ours, or over."""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            user_id, ends_at = HEAD.unpack(raw[: HEAD.size])
            nonce = raw[HEAD.size : -32].decode("ascii")
        except (binascii.Error, struct.error, ValueError):
            return None
        if not hmac.compare_digest(self._sign(raw[:-32]), raw[-32:]) or ends_at < time.time():
            return None
        return user_id, nonce

    def _sign(self, said: bytes) -> bytes:
        key = self.secret.get_secret_value().encode() if self.secret else secrets.token_bytes(32)
        return hmac.new(key, b"verify " + said, hashlib.sha256).digest()
