"""An overlay in a real browser, for the tests that look at it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from overlay_doubles import Overlay
from playwright.sync_api import Error
from waddlebot.testing.browser import chromium

OPTIONS = [
    # Sandboxed frames would get processes of their own; Playwright's driver falls over them where they come and go
    # quickly.
    "--disable-features=IsolateSandboxedIframes",
    # A name that is not this machine's own.
    "--host-resolver-rules=MAP overlay.test 127.0.0.1",
]

# Notes every text that is on the screen when a frame is drawn, as a viewer would.
WATCH = """
window.seen = [];
const look = () => {
  const shown = [...document.querySelectorAll('main > :not([hidden])')].map((each) => each.innerText.trim()).join(' ');
  if (shown && shown !== window.seen.at(-1)) window.seen.push(shown);
  if (!shown && window.seen.at(-1) !== '') window.seen.push('');
  requestAnimationFrame(look);
};
addEventListener('DOMContentLoaded', () => requestAnimationFrame(look));
"""

STATE = "[{...document.documentElement.dataset}, window.lines.map((each) => each.readyState)]"


def launched(*options: str) -> AbstractContextManager[Any]:
    return chromium(*OPTIONS, *options)


@dataclass
class Screen:
    """One overlay in a browser, as OBS shows it."""

    page: Any
    overlay: Overlay
    source_type: str
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def wait(self, check: str, *, within_s: float = 10) -> None:
        """Wait until an expression holds in the page. Playwright's own wait needs eval, which the policy bars."""
        self.until(lambda: self.page.evaluate(check), within_s=within_s)

    def wait_for_text(self, text: str, *, within_s: float = 10) -> None:
        self.until(lambda: text in self.text, within_s=within_s)

    def until(self, check: Callable[[], object], *, within_s: float = 10) -> None:
        """Wait for something outside of the page while the page goes on."""
        until = time.monotonic() + within_s
        while not self._holds(check):
            assert time.monotonic() < until, (
                f"not within {within_s} s; the page shows {self.text!r}, is {self.page.evaluate(STATE)}"
                f" and heard {self.problems + self.heard}"
            )
            self.page.wait_for_timeout(20)

    def _holds(self, check: Callable[[], object]) -> bool:
        """Not while a frame that it looks into goes to another page."""
        try:
            return bool(check())
        except Error as err:
            if "context was destroyed" in err.message:
                return False
            raise

    @property
    def text(self) -> str:
        return self.page.evaluate(
            "[...document.querySelectorAll('main > :not([hidden])')].map((each) => each.innerText).join(' ')"
        )

    @property
    def seen(self) -> list[str]:
        return [each for each in self.page.evaluate("window.seen") if each]

    def box(self, selector: str) -> dict[str, float]:
        return self.page.locator(selector).bounding_box()

    def cut(self) -> None:
        """Take the page's network away and give it back, as a router at home does."""
        self.page.evaluate("window.lines.forEach((each) => each.close())")
