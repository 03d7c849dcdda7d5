"""A mail server on loopback that keeps what it takes."""

from __future__ import annotations

import base64
import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self


class Mailbox(socketserver.ThreadingTCPServer):
    """Takes mail from whoever signs in as `account`, a name and a password."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, account: tuple[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.account = account
        self.mails: list[EmailMessage] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        self._say("220 mailbox")
        trusted = False
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            if verb.upper() == "EHLO":
                self._say("250-mailbox", "250 AUTH PLAIN")
            elif verb.upper() == "AUTH":
                _, name, password = base64.b64decode(rest.removeprefix("PLAIN ")).decode().split("\0")
                trusted = (name, password) == self.server.account
                self._say("235 welcome" if trusted else "535 who are you?")
            elif verb.upper() == "DATA":
                self._say("354 go on")
                self.server.mails.append(message_from_bytes(self._read_mail(), policy=policy.default))
                self._say("250 taken")
            elif verb.upper() == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok" if trusted else "530 sign in first")

    def _read_mail(self) -> bytes:
        lines = iter(self.rfile.readline, b".\r\n")
        return b"".join(line.removeprefix(b".") if line.startswith(b"..") else line for line in lines)

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
