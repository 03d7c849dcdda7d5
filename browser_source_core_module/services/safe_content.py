"""What may reach an overlay from outside: a subset of HTML without anything active, and media of known hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import nh3
from waddlebot.base.chat import shorten
from waddlebot.base.wire import for_screen

BLOCKS = {"div", "p", "section", "blockquote", "pre", "figure", "figcaption", "hr", "h1", "h2", "h3", "h4", "h5", "h6"}
INLINE = {"span", "b", "strong", "i", "em", "u", "s", "small", "mark", "sub", "sup", "code", "br", "wbr", "bdi", "img"}
LISTS = {"ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"}
ATTRIBUTES = {
    "*": {"style", "dir", "lang", "title"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "ol": {"start", "reversed"},
}
# fmt: off
STYLES = {
    "color", "background", "background-color", "opacity", "text-align", "text-transform", "text-decoration",
    "text-shadow", "letter-spacing", "word-spacing", "line-height", "font", "font-family", "font-size", "font-style",
    "font-weight", "font-variant", "white-space", "padding", "padding-top", "padding-right", "padding-bottom",
    "padding-left", "margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "border", "border-top",
    "border-right", "border-bottom", "border-left", "border-color", "border-style", "border-width", "border-radius",
    "border-collapse", "border-spacing", "box-shadow", "width", "height", "min-width", "min-height", "max-width",
    "max-height", "display", "flex", "flex-direction", "flex-wrap", "flex-grow", "flex-shrink", "flex-basis",
    "justify-content", "align-items", "align-content", "align-self", "order", "gap", "grid-template-columns",
    "grid-template-rows", "grid-column", "grid-row", "vertical-align", "list-style-type", "object-fit",
    "aspect-ratio", "overflow", "transform", "direction", "unicode-bidi", "float", "clear",
}
# fmt: on
# CSS that would load something, and the escapes that could spell it. The page's policy refuses it as well.
LOADS = re.compile(r"\\|url|image|src|cross-fade|element|expression|import|@|var", re.IGNORECASE)
# What a community has uploaded, as our pages load it.
OWN_MEDIA = re.compile(r"/browser/media/[0-9a-f]{64}", re.ASCII)


class MediaPolicy:
    """Which hosts an overlay may load art, clips and videos from."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._exact = {host.lower() for host in hosts if not host.startswith("*.")}
        self._suffixes = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self.csp_sources = " ".join(csp_source(host) for host in hosts)

    def allows(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            netloc = parts.netloc.lower().removesuffix(":443")
        except ValueError:
            return False
        if re.search(r"[\s\\\"'<>@]", url) or not netloc:
            return False
        is_loopback = netloc.startswith(("127.0.0.1:", "localhost:"))
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
            return False
        return netloc in self._exact or netloc.endswith(self._suffixes)

    def kept(self, url: str) -> str:
        """The URL, or nothing if it leads elsewhere."""
        return url if self.allows(url) else ""

    def clean_html(self, html: str) -> str:
        """HTML without scripts, handlers, links, forms, frames, or anything loaded from elsewhere."""
        return nh3.clean(
            html,
            tags=BLOCKS | INLINE | LISTS,
            clean_content_tags={"script", "style", "template", "title", "noscript", "iframe", "object", "svg", "math"},
            attributes=ATTRIBUTES,
            attribute_filter=self._filter_attribute,
            filter_style_properties=STYLES,
            url_schemes={"https", "http"},
            link_rel=None,
            strip_comments=True,
        )

    def _filter_attribute(self, _tag: str, name: str, value: str) -> str | None:
        if name == "src":
            return value if self.allows(value) else None
        if name == "style":
            return None if LOADS.search(value) else value
        return value


def is_own(url: str) -> bool:
    """Whether this is a file that was uploaded here."""
    return OWN_MEDIA.fullmatch(url) is not None


def one_line(text: str, limit: int) -> str:
    """A text for one line: no controls, no line breaks, and cut with an ellipsis where it is too long."""
    return shorten(" ".join(for_screen(text).split()), limit)


def csp_source(host: str) -> str:
    """A host as a policy names it, which is the origin of what is loaded from there."""
    is_loopback = host.startswith(("127.0.0.1:", "localhost:"))
    return f"http://{host}" if is_loopback else f"https://{host}"
