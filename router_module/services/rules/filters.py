"""Filters: rules about how a line is written instead of what it says. Each kind takes one measure of a line, which all
rules of that kind compare with their own `number` and `share` (contracts §7).

Every search here is linear in the line, whoever wrote it.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import eq, ne
from typing import Any, Final

from waddlebot.base.errors import Invalid
from waddlebot.base.text import MARKS, as_seen

LINKS = "links"
MAX_NUMBER = 100_000
MAX_ALLOWED_CHARS = 2_000
# What a filter asks for where a rule does not say: so many, which are at least so many percent of the line.
USUAL: Final[dict[str, tuple[int, int]]] = {
    "caps": (10, 70),
    LINKS: (1, 0),
    "symbols": (8, 50),
    "emotes": (8, 0),
    "length": (400, 0),
    "repeats": (8, 0),
    "mentions": (5, 0),
    "zalgo": (5, 0),
}
# What is said where a rule does not say it.
SAID: Final = {
    "caps": "Please write with fewer capital letters.",
    LINKS: "Please ask a moderator before you post a link: !permit lets you.",
    "symbols": "Please write with fewer symbols.",
    "emotes": "Please write with fewer emotes.",
    "length": "Please keep it shorter.",
    "repeats": "Please do not repeat yourself.",
    "mentions": "Please do not call so many people at once.",
    "zalgo": "Please write without stacked marks.",
}
PERMITTED_S = 60
WORDS_REPEATED = 4

MENTION = re.compile(r"(?<![\w@])@\w")
# A character again and again; digits may.
THREE_ALIKE = re.compile(r"(.)\1\1")
RUN = re.compile(r"([^\s\d])\1{2,}")
# Marks that no language stacks, each beyond the first on its letter. Vietnamese is composed before, and the marks of
# Hebrew, Arabic, Thai and the scripts of India are others.
STACKED = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{2,}")
# Pictures by themselves, flags, and pictures joined to one. Source: Unicode 16, emoji-data.txt, Emoji_Presentation.
EMOJI = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}|[\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff][\U0001f3fb-\U0001f3ff]?"
    "|[\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be"
    "\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2764"
    "\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55]"
)

# Endings of addresses. With any of these a.b is a link; "dot" written out is one only with an ending that is no word.
_WRITTEN_OUT = (
    "com net org gg tv info biz xyz app dev online site shop store club live stream link click top pro io ru uk de fr "
    "eu co ly edu gov"
)
_OTHERS = (
    "academy agency art blog bot cafe cam casino chat city cloud code community company design digital download email "
    "events fans fm fun fund game games gay gift global group guru host icu inc ink jobs lol love ltd market media "
    "mobi money monster moe movie name network news ninja one page party photo photos pics pink plus poker porn press "
    "pub quest red rest review rip rocks run sale school science sex sexy sh social software solutions space studio "
    "support systems team tech tips today tools trade travel tube tel video vip web website wiki win work works world "
    "wtf zip zone bet cash bid loan date men ren mom cyou cfd sbs bond asia cat int mil aero arpa museum coop post "
    "youtube google amazon microsoft apple"
)
_COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc "
    "cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga "
    "gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp "
    "ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms "
    "mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro "
    "rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt "
    "tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
# The full stop of Chinese and a forgotten space are no dots: in other scripts only what really is an ending counts.
_OTHER_SCRIPTS = (
    "рф рус бел укр срб мкд бг ею мон қаз հայ გე ελ ευ сайт онлайн орг ком дети москва католик 中国 中國 香港 "
    "台湾 台灣 新加坡 澳門 网络 公司 公益 网址 网站 在线 中文网 商城 集团 我爱你 移动 游戏 政务 手机 企业 "
    "한국 닷컴 닷넷 みんな コム ストア セール グーグル ไทย คอม ลาว भारत बाजार संगठन नेट कॉम ভারত বাংলা ලංකා "
    "இந்தியா ישראל קום امارات السعودية ایران مصر المغرب تونس الجزائر قطر عمان بازار شبكة موقع كوم پاکستان "
    "بھارت"
)
WRITTEN_OUT = frozenset(_WRITTEN_OUT.split())
ENDINGS = WRITTEN_OUT.union(_OTHERS.split(), _COUNTRIES.split(), MARKS.sub("", _OTHER_SCRIPTS).split())
# Words that are nobody's address before a dot: "the .com boom", "lol.no".
_EVERYDAY = (
    "a an the my your our his her its their this that these those any every each some no one two three all most "
    "many i you he she it we they me him us them is are was be am do of or and for to in on at with by from as than "
    "so but if not new old good own get buy use using learn like polka yes yeah ok okay lol nice well hi hey thanks "
    "man bro cool true right sure now here there today what when who how why wait please sorry go stop come"
)
EVERYDAY = frozenset(_EVERYDAY.split())
LONGEST_EVERYDAY = max(map(len, EVERYDAY))
# Full stops of other scripts, which browsers take for a dot; what is like one; and letters in brackets, circles and
# squares that Unicode does not take for letters. Source: Unicode 16, blocks 2460 and 1F100.
WRITTEN_AS = str.maketrans("。｡．•·‧∙⋅", "...,,,,,") | {
    first + letter: ord("a") + letter for first in (0x249C, 0x1F110, 0x1F150, 0x1F170) for letter in range(26)
}
# Two of them are a flag.
FLAG_LETTERS = re.compile("(?<![🇦-🇿])[🇦-🇿](?:[🇦-🇿]{2,})?(?![🇦-🇿])")
FLAG_LETTER = {ord("🇦") + letter: ord("a") + letter for letter in range(26)}
# These of other scripts look like the letters of com, net, org, gg, tv and ru.
LOOK_ALIKES = str.maketrans("сϲᴄоοօᴏмⅿᴍеᴇтτᴛոɴгʀɡցɢѵᴠуᴜ", "cccoooommmeetttnnrrgggvvuu")
ENDING_OF_TWO_SCRIPTS = re.compile(r"(?<=[. ])[^\W_]{2,3}(?![^\W_])")
# In texts whose white space is single spaces.
LETTERS_APART = re.compile(r" [^\W_](?:[ .][^\W_](?![^\W_]))+")
DOT_IN_BRACKETS = re.compile(r""" ?(?:[(\[{<] ?(?:d[o0]t|\.) ?[)\]}>]|["'*]\.["'*]) ?""")
BRACKETS = frozenset("([{<\"'*")
# A dot with room before it, or its name. Without room a sentence may have ended, and "com" is a word in some languages:
# there, and for what is merely like a dot, an address has to end the line or go on with a path.
DOT_WRITTEN_OUT = re.compile(
    rf"(?<=\w)(?:(?: d[o0]t | \. ?)(?=(?:{'|'.join(sorted(WRITTEN_OUT))})\b)"
    r"|(?:-dot-|\\?\.{1,3} ?|,)(?=(?:com|net|org)(?: ?/|\W*$)))"
)
NO_WORD_BEFORE = re.compile(r"\W")
DISCORD_GG = re.compile(r"\bdiscord gg ?/ ?")
DOTTED = re.compile(r"[\w-]\.[\w-]|://")
BROKEN_SCHEME = re.compile(r"h(?:tt|xx|\*\*)p(s?) ?: ?/ ?/ ?")
ADDRESS = re.compile(
    r"(?<![\w-])(?P<scheme>https?://(?:[^\s/@]*+@)?)?(?P<host>[\w-]++(?:\.[\w-]++)*+)\.?(?::\d++)?(?P<path>/\S*+)?"
)
OCTETS = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)")


@dataclass(frozen=True, slots=True)
class Measure:
    """So many of that many."""

    count: int
    of: int


@dataclass(frozen=True, slots=True)
class Filter:
    """What a rule asks of a line: at least `number` of what is counted, and at least `share` percent of the line.
    `text` is what its author calls it, for links the list of `allowed` addresses, which do not count: a host with all
    below it, or a host and the beginning of a path."""

    match_type: str
    text: str
    number: int
    share: int
    allowed: tuple[str, ...] = ()

    def hits(self, line: Line) -> bool:
        measure = line.measure(self.match_type)
        if self.allowed and measure.count:
            others = sum(not any(map(link.is_at, self.allowed)) for link in line.links)
            measure = Measure(others, measure.of)
        return measure.count >= self.number and measure.count * 100 >= self.share * measure.of


@dataclass(frozen=True, slots=True)
class Link:
    host: str
    path: str

    def is_at(self, allowed: str) -> bool:
        host, slash, path = allowed.partition("/")
        if self.host != host and not self.host.endswith(f".{host}"):
            return False
        # A path is a whole one: /waddle is not /waddle-evil.
        return not path or f"{self.path}/".startswith(f"{slash}{path.rstrip('/')}/")


class Line:
    """A line of chat, measured as its reader sees it and once for however many filters.

    emotes: those of its words that the platform shows as pictures. Letters in them are nobody's shouting.
    """

    def __init__(self, text: str, emotes: Sequence[str] = ()) -> None:
        self.text = text
        self.emotes = emotes
        self._measures: dict[str, Measure] = {}

    def measure(self, kind: str) -> Measure:
        found = self._measures.get(kind)
        if found is None:
            found = self._measures[kind] = MEASURES[kind](self)
        return found

    @classmethod
    def of(cls, text: str, data: Mapping[str, Any]) -> Line:
        """A line with what its collector says of it: `data.emotes`, a list of the words."""
        emotes = data.get("emotes")
        return cls(text, [each for each in emotes if isinstance(each, str)] if isinstance(emotes, list) else ())

    @cached_property
    def seen(self) -> str:
        seen = as_seen(self.text)
        return seen if seen.isascii() else unicodedata.normalize("NFC", seen)

    @cached_property
    def highest(self) -> str:
        """Its character with the highest number: what lies beyond need not be looked for."""
        return max(self.seen, default="")

    @cached_property
    def words(self) -> list[str]:
        return self.seen.split()

    @cached_property
    def visible(self) -> int:
        """Characters but for white space."""
        return sum(map(len, self.words))

    @cached_property
    def links(self) -> list[Link]:
        return list(find_links(self.seen))


# Most lines have nothing of any of this, so each measure first looks for that in the fastest way that there is.
NOTHING = Measure(0, 0)
ASCII = bytes(range(128))
NOT_UPPER = ASCII.translate(None, string.ascii_uppercase.encode())
NOT_CASED = ASCII.translate(None, string.ascii_letters.encode())
NO_WORD = re.compile(r"[^\w\s]|_")
FIRST_EMOJI, FIRST_MARK = "\u231a", "\u0300"
NO_SYMBOL = ASCII.translate(None, string.punctuation.encode())


def _caps(line: Line) -> Measure:
    """Of the letters that have a case, which most scripts have not."""
    upper = _count_upper(line.seen)
    if not upper:
        return NOTHING
    in_emotes = "".join(line.emotes)
    upper_in_emotes = _count_upper(in_emotes)
    return Measure(upper - upper_in_emotes, _count_cased(line.seen) - _count_cased(in_emotes))


def _count_upper(text: str) -> int:
    if text.isascii():
        return len(text.encode().translate(None, NOT_UPPER))
    if len(small := text.lower()) == len(text):
        return sum(map(ne, text, small))
    return sum(map(str.isupper, text))


def _count_cased(text: str) -> int:
    if text.isascii():
        return len(text.encode().translate(None, NOT_CASED))
    if len(small := text.lower()) == len(large := text.upper()):
        return sum(map(ne, small, large))
    return sum(map(str.isupper, text)) + sum(map(str.islower, text))


def _symbols(line: Line) -> Measure:
    text = line.seen
    for emote in line.emotes:
        text = text.replace(emote, "", 1)
    if text.isascii():
        count = len(text.encode().translate(None, NO_SYMBOL))
    else:
        others = NO_WORD.findall(EMOJI.sub("", text) if line.highest >= FIRST_EMOJI else text)
        count = sum(unicodedata.category(each)[0] in "PS" for each in others)
    return Measure(count, line.visible) if count else NOTHING


def _emotes(line: Line) -> Measure:
    """The platform's own and the pictures of Unicode, of all words."""
    pictures = len(EMOJI.findall(line.seen)) if line.highest >= FIRST_EMOJI else 0
    count = len(line.emotes) + pictures
    return Measure(count, max(len(line.words), count)) if count else NOTHING


def _repeats(line: Line) -> Measure:
    """How often the same character, from three times on, or the same word or words follow each other, at most."""
    runs = []
    if THREE_ALIKE.search(line.seen):
        runs += [Measure(len(run[0]), line.visible) for run in RUN.finditer(line.seen)]
    words = line.seen.lower().split()
    if len(set(words)) < len(words):
        runs += _runs_of_words(words)
    return max(runs, key=lambda run: run.count, default=NOTHING)


def _runs_of_words(words: Sequence[str]) -> Iterator[Measure]:
    for length in range(1, WORDS_REPEATED + 1):
        if not any(map(eq, words[length:], words)):
            continue
        in_a_row = longest = 0
        for one, before in zip(words[length:], words, strict=False):
            in_a_row = in_a_row + 1 if one == before else 0
            longest = max(longest, in_a_row)
        if longest >= length:
            yield Measure(1 + longest // length, -(-len(words) // length))


def _length(line: Line) -> Measure:
    """A picture counts as one character, however it is written."""
    length = max(len(line.seen) - sum(len(each) - 1 for each in line.emotes), 0)
    return Measure(length, length)


def _zalgo(line: Line) -> Measure:
    if line.highest < FIRST_MARK:
        return NOTHING
    count = sum(len(stack) - 1 for stack in STACKED.findall(line.seen))
    return Measure(count, line.visible) if count else NOTHING


def _links(line: Line) -> Measure:
    return Measure(len(line.links), len(line.words)) if line.links else NOTHING


def _mentions(line: Line) -> Measure:
    return Measure(len(MENTION.findall(line.seen)), len(line.words)) if "@" in line.seen else NOTHING


MEASURES: Final[dict[str, Callable[[Line], Measure]]] = {
    "caps": _caps,
    LINKS: _links,
    "symbols": _symbols,
    "emotes": _emotes,
    "length": _length,
    "repeats": _repeats,
    "mentions": _mentions,
    "zalgo": _zalgo,
}


def make_filter(match_type: str, text: str, *, number: int, share: int) -> Filter:
    """Raises: Invalid for an allow list that is none."""
    return Filter(match_type, text, number, share, read_allowed(text) if match_type == LINKS else ())


# Without any of these a text has no address, however it is written.
SIGNS = (".", "//", "dot", "d0t", "d o t", "/ /", ",com", ",net", ",org", "discord gg")


def find_links(text: str) -> Iterator[Link]:
    """The addresses in a text as people write them: bare, with "dot" written out, with letters apart, in other scripts,
    with something around each letter, as numbers."""
    text = _in_plain_letters(as_seen(text).lower())
    if not any(each in text for each in SIGNS):
        return
    text = _in_one_piece(" ".join(text.split()))
    if not DOTTED.search(text):
        return
    for found in ADDRESS.finditer(text):
        host, path = found["host"], found["path"] or ""
        if found["scheme"] or _is_host(host, path):
            yield Link(_as_registered(host), path)


def _in_plain_letters(text: str) -> str:
    if text.isascii():
        return text
    if max(text) >= FIRST_EMOJI:
        text = FLAG_LETTERS.sub(lambda found: found[0].translate(FLAG_LETTER), text)
    text = MARKS.sub("", unicodedata.normalize("NFKC", text.translate(WRITTEN_AS)).lower())
    return ENDING_OF_TWO_SCRIPTS.sub(_in_one_script, text)


def _in_one_script(ending: re.Match[str]) -> str:
    read = ending[0].translate(LOOK_ALIKES)
    return read if read in WRITTEN_OUT else ending[0]


def _in_one_piece(text: str) -> str:
    """A text with each address as a browser would want it."""
    text = text.replace(" d o t ", " dot ")
    text = LETTERS_APART.sub(lambda found: f" {found[0].replace(' ', '')}", f" {text}")
    if "/" in text:
        text = DISCORD_GG.sub("discord.gg/", BROKEN_SCHEME.sub(r"http\1://", text))
    if not BRACKETS.isdisjoint(text):
        text = DOT_IN_BRACKETS.sub(".", text)
    return DOT_WRITTEN_OUT.sub(_dot, text)


def _dot(found: re.Match[str]) -> str:
    at = found.start()
    before = NO_WORD_BEFORE.split(found.string[max(at - LONGEST_EVERYDAY - 1, 0) : at])[-1]
    return found[0] if before in EVERYDAY else "."


def _is_host(host: str, path: str) -> bool:
    labels = host.split(".")
    if len(labels) < 2:
        return False
    if not path and EVERYDAY.issuperset(labels):  # Somebody forgot a space.
        return False
    last = labels[-1]
    # x.com.and: somebody forgot a space, or hoped for that.
    known = last in ENDINGS or any(each in WRITTEN_OUT and len(each) > 2 for each in labels[1:])
    return known or last.startswith("xn--") or OCTETS.fullmatch(host) is not None


def _as_registered(host: str) -> str:
    """A host as it is registered: in Punycode, so that а.com is not a.com."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def read_allowed(text: str) -> tuple[str, ...]:
    """The addresses that a links filter lets pass, from a text with white space or commas between them.

    Raises: Invalid, naming the first that is no address.
    """
    if len(text) > MAX_ALLOWED_CHARS:
        raise Invalid(f"An allow list has at most {MAX_ALLOWED_CHARS} characters.", field="string")
    return tuple(_allowed(each) for each in re.split(r"[\s,]+", text.strip()) if each)


def _allowed(text: str) -> str:
    bare = re.sub(r"^https?://|^\*\.", "", unicodedata.normalize("NFKC", as_seen(text)).lower())
    host, slash, path = bare.partition("/")
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", host):
        raise Invalid(
            f"“{text[:60]}” is no address. A links filter's string is what it lets pass: youtube.com, twitch.tv/me.",
            field="string",
        )
    return _as_registered(host) + (slash + path if path else "")
