"""String rules against chat messages of 200 characters, beside RE2 by itself and a loop of Python's patterns."""

from __future__ import annotations

import importlib.util
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType

import re2

from bench.common import ROOT, table

BARE_BAR = 0.3
GROWTH_BAR = 2.0
LOOP_BAR = 1 / 20
CATASTROPHE_BAR_MS = 5.0
ROUNDS = 5
MESSAGES = 4000
MESSAGE_CHARS = 200
SEED = 1
CATASTROPHES = [r"(a+)+$", r"(a|aa)+$", r"(\w+\s?)*$", r"(.*a){25}b", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(x+x+)+y"]

Search = Callable[[str], object]


def load_matcher() -> ModuleType:
    """The matcher alone: importing its package would start the router."""
    path = ROOT / "router_module/services/rules/string_matcher.py"
    spec = importlib.util.spec_from_file_location("string_matcher", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_words() -> list[str]:
    """The words of our own documents in their order: people's language is neither random nor evenly spread."""
    documents = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*_module/*.md")])
    return re.findall(r"[A-Za-z]{2,}", " ".join(path.read_text() for path in documents))


def make_rules(count: int) -> list[tuple[str, str]]:
    """Pairs of match type and text, 45 % contains, 45 % word and 10 % regex. No message says any by chance."""
    draw = random.Random(SEED)
    words = sorted({word.lower() for word in read_words()})
    rules: list[tuple[str, str]] = []
    for number in range(count):
        text = draw.choice(words) + draw.choice(words) + "q"
        if number % 10 == 9:
            rules.append(("regex", rf"{text}\s+\w+|https?://{text}\.\w+"))
        else:
            rules.append(("word" if number % 2 else "contains", text))
    return rules


def make_messages(kind: str, rules: Sequence[tuple[str, str]]) -> list[str]:
    """Pieces of our documents; one in a hundred says what a rule looks for.

    Those that are not ASCII have an é for each e, and one in twenty an ß.
    """
    draw = random.Random(SEED)
    words = read_words()
    texts = [text for match_type, text in rules if match_type != "regex"]
    messages = []
    for number in range(MESSAGES):
        start = draw.randrange(len(words) - MESSAGE_CHARS)
        said = " ".join(words[start : start + MESSAGE_CHARS])
        if kind != "ASCII":
            said = ("Straße " if number % 20 == 1 else "") + said.replace("e", "é")
        if number % 100 == 0:
            said = f"{draw.choice(texts).upper()} {said}"
        messages.append(said[:MESSAGE_CHARS])
    return messages


def bare_set(rules: Sequence[tuple[str, str]]) -> Search:
    """What RE2's wrapper does by itself: near enough the same patterns, without folding and exact word ends."""
    options = re2.Options()
    options.max_mem = 64 << 20
    options.case_sensitive = False
    bare = re2.Set.SearchSet(options)
    for match_type, text in rules:
        bare.Add(rf"\b{text}\b" if match_type == "word" else text)
    bare.Compile()
    return bare.Match


def python_loop(rules: Sequence[tuple[str, str]]) -> Search:
    loop = [re.compile(rf"\b{text}\b" if kind == "word" else text, re.IGNORECASE) for kind, text in rules]
    return lambda message: [number for number, pattern in enumerate(loop) if pattern.search(message)]


def per_second(search: Search, messages: Sequence[str]) -> float:
    started = time.process_time()
    for message in messages:
        search(message)
    return len(messages) / (time.process_time() - started)


def say_bar(what: str, ratio: float, bar: float, met: bool) -> None:
    print(f"  {what}: {ratio:.3g}; the bar is {bar:.3g}: {'met' if met else 'MISSED'}")


class Contest:
    """The matcher and its two references with so many rules, and what each did in each round."""

    def __init__(self, kind: str, count: int, module: ModuleType) -> None:
        rules = make_rules(count)
        self.messages = make_messages(kind, rules)
        started = time.process_time()
        matcher = module.Matcher([module.Pattern(text, match_type) for match_type, text in rules])
        self.build_s = time.process_time() - started
        if sum(bool(matcher.match(message)) for message in self.messages) != MESSAGES // 100:
            raise SystemExit("The matcher did not find what was put into the messages.")
        self._searches = {"loop": python_loop(rules), "bare": bare_set(rules), "ours": matcher.match}
        self.speeds: dict[str, list[float]] = {who: [] for who in self._searches}
        per_second(self._searches["bare"], self.messages)
        # One message of ten thousand rules takes the loop some 20 ms.
        self._loop_messages = self.messages[: max(5, 20_000 // count)]

    def run(self) -> None:
        for who, search in self._searches.items():
            messages = self._loop_messages if who == "loop" else self.messages
            self.speeds[who].append(per_second(search, messages))

    def median(self, who: str) -> float:
        return statistics.median(self.speeds[who])

    def ratio(self, who: str, whose: str) -> float:
        """Of the cost of a message, taken round by round."""
        return statistics.median(b / a for a, b in zip(self.speeds[who], self.speeds[whose], strict=True))


def measure(kind: str, module: ModuleType) -> None:
    contests = {count: Contest(kind, count, module) for count in (100, 1000, 10_000)}
    for _ in range(ROUNDS):
        for contest in contests.values():
            contest.run()
    rows = [
        (
            count,
            *(f"{contest.median(who):.0f}" for who in ("loop", "bare", "ours")),
            f"{contest.ratio('bare', 'ours'):.2f}",
            f"{contest.build_s:.2f}",
        )
        for count, contest in contests.items()
    ]
    table(
        f"String rules, {kind}, messages a second",
        ("rules", "Python loop", "bare RE2 set", "matcher", "of bare", "build s"),
        rows,
    )
    few, many = contests[100].speeds["ours"], contests[10_000].speeds["ours"]
    bare = contests[1000].ratio("bare", "ours")
    growth = statistics.median(a / b for a, b in zip(few, many, strict=True))
    loop = contests[10_000].ratio("ours", "loop")
    say_bar("1 000 rules, messages a second, of the bare set's", bare, BARE_BAR, bare >= BARE_BAR)
    say_bar("10 000 rules, times the cost of 100", growth, GROWTH_BAR, growth <= GROWTH_BAR)
    say_bar("10 000 rules, of the cost of a Python loop", loop, LOOP_BAR, loop <= LOOP_BAR)


def measure_catastrophes(module: ModuleType) -> None:
    rows, slowest = [], 0.0
    for regex in CATASTROPHES:
        took: list[float] = []
        for message in ("a" * 5000 + "!", "x" * 5000, "a " * 2500 + "é!"):
            matcher = module.Matcher([module.Pattern(regex, "regex")])
            bare = re2.compile(regex)
            started = time.process_time()
            bare.search(message)
            between = time.process_time()
            matcher.match(message)
            took += [(between - started) * 1e3, (time.process_time() - between) * 1e3]
        slowest = max(slowest, *took[1::2])
        rows.append((regex, f"{max(took[::2]):.2f}", f"{max(took[1::2]):.2f}"))
    table("Catastrophic patterns, 5 000 characters, the slowest of three, ms", ("pattern", "bare RE2", "matcher"), rows)
    say_bar("slowest, ms", slowest, CATASTROPHE_BAR_MS, slowest < CATASTROPHE_BAR_MS)


def main() -> None:
    module = load_matcher()
    for kind in ("ASCII", "not ASCII"):
        measure(kind, module)
    measure_catastrophes(module)


if __name__ == "__main__":
    main()
