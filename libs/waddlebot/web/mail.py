"""Mail to people who have an account here."""

from __future__ import annotations

import email.charset
import os
import shutil
import smtplib
import ssl
import subprocess
import threading
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formataddr, formatdate, make_msgid
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from pydantic import Field

from ..base.errors import NotConfigured, UpstreamError
from ..base.logs import AAALog
from ..base.settings import Secret, Settings
from ..base.transactions import check_no_transaction

SMTPS_PORT = 465
# Where it is on most machines, though not on every PATH.
SENDMAIL_FOLDERS = ("/usr/sbin", "/usr/lib")
SENDMAIL_TIMEOUT_S = 20


class _Smtp(smtplib.SMTP):
    """Looks at the server's certificate, which smtplib does only when told to."""

    def starttls(self, *_: Any, **__: Any) -> tuple[int, bytes]:
        return super().starttls(context=ssl.create_default_context())


class _Smtps(smtplib.SMTP_SSL):
    """The same, for a port that speaks TLS from the first byte."""

    def __init__(self, host: str, port: str, timeout: float) -> None:
        super().__init__(host, int(port), timeout=timeout, context=ssl.create_default_context())


class MailNotSent(UpstreamError):
    """The mail server did not take it. Nothing was sent."""

    code = "mail_not_sent"


def find_sendmail() -> str | None:
    """This machine's sendmail, which all mail servers bring along."""
    return shutil.which("sendmail", path=os.pathsep.join([os.environ.get("PATH", ""), *SENDMAIL_FOLDERS]))


class MailSettings(Settings):
    """Where mail goes out: by SMTP_HOST, else by this machine's sendmail, if it has one."""

    smtp_host: str | None = Field(None, alias="SMTP_HOST", description="Mail server; this machine's sendmail without.")
    smtp_port: int = Field(587, alias="SMTP_PORT", ge=1, le=65535, description="Its port; 465 speaks TLS at once.")
    smtp_username: str | None = Field(
        None, alias="SMTP_USERNAME", pattern="^[^:]+$", description="Account at the mail server."
    )
    smtp_password: Secret | None = Field(None, alias="SMTP_PASSWORD", description="That account's password.")
    smtp_tls: bool = Field(
        True, alias="SMTP_TLS", description="Speak TLS with the mail server, and check its certificate."
    )
    from_email: str | None = Field(None, alias="FROM_EMAIL", description="Address that mail comes from.")
    from_name: str = Field("WaddleBot", alias="FROM_NAME", description="Name that mail comes from.")


class Mail:
    """py4web's mailer with our settings; `Auth` may use it as its `sender`."""

    def __init__(self, settings: MailSettings, log: AAALog) -> None:
        self._log = log
        self._settings = settings
        self._sender = formataddr((settings.from_name, settings.from_email or ""))
        self._sendmail = None if settings.smtp_host else find_sendmail()
        self.is_possible = bool((settings.smtp_host or self._sendmail) and settings.from_email)

    @cached_property
    def _mailer(self) -> Any:
        from py4web.utils import mailer  # With the first mail: it brings boto3 along, which is 6 MB.

        # py4web 1.20260805 uses the first two without importing them, so that each mail fails; and it checks no
        # certificate.
        mailer.add_charset = email.charset.add_charset
        mailer.charset_QP = email.charset.QP
        mailer.smtplib = SimpleNamespace(SMTP=_Smtp, SMTP_SSL=_Smtps)
        settings = self._settings
        login, password = settings.smtp_username, settings.smtp_password
        return mailer.Mailer(
            server=f"{settings.smtp_host}:{settings.smtp_port}",
            sender=self._sender,
            login=f"{login}:{password.get_secret_value() if password else ''}" if login else None,
            tls=settings.smtp_tls,
            ssl=settings.smtp_tls and settings.smtp_port == SMTPS_PORT,
        )

    def send(self, to: str, subject: str, body: str) -> bool:
        """Send a text. Raises: NotConfigured without a mail server; MailNotSent."""
        check_no_transaction()
        if not self.is_possible:
            raise NotConfigured(
                "This fleet cannot send mail: its operator has to set SMTP_HOST (or have sendmail) and FROM_EMAIL."
            )
        try:
            if self._sendmail:
                self._hand_over(self._sendmail, to, subject, body)
            else:
                self._mailer.send(to=[to], subject=subject, body=body)
        except (OSError, smtplib.SMTPException, subprocess.SubprocessError) as err:
            raise MailNotSent() from err
        return True

    def _hand_over(self, sendmail: str, to: str, subject: str, body: str) -> None:
        """Give it to this machine's sendmail, which reads the addresses from the mail itself."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, to, subject
        mail["Date"], mail["Message-ID"] = formatdate(localtime=False), make_msgid()
        mail.set_content(body)
        subprocess.run(
            [sendmail, "-t", "-i"], input=mail.as_bytes(), check=True, timeout=SENDMAIL_TIMEOUT_S, capture_output=True
        )

    def send_later(self, to: str, subject: str, body: str) -> None:
        """Send it without keeping anybody waiting: how long an answer takes must not tell whether there was a mail."""
        # not watched: it ends with the mail, and what went wrong is logged.
        threading.Thread(target=self._try, args=(lambda: self.send(to, subject, body),), daemon=True).start()

    def _try(self, send: Callable[[], object]) -> None:
        try:
            send()
        except (UpstreamError, NotConfigured) as err:
            self._log.error("mail_not_sent", code=err.code, message=err.message)
