"""!ai and !ask, and what is answered unasked: mentions, questions, events."""

from __future__ import annotations

from dataclasses import dataclass

from waddlebot.base.contracts import Level, MessageType
from waddlebot.base.errors import ProviderError, UsageError, UserError
from waddlebot.base.text import fold
from waddlebot.data.ratelimit import Limit, RateLimiter, Request
from waddlebot.module.call import Said
from waddlebot.module.interaction import OutsideCall, say

from ..services import prompts
from ..services.ai_service import AIService, NotSetUp
from ..services.asking import Asked
from ..services.conversations import Conversations, Exchange
from ..services.fitting import Fitted
from ..services.ledger import AskedAs, Ledger, Payer
from ..services.profiles import Profile, Profiles
from ..services.router_service import RouterService

USAGE = "Usage: !ai <question> | forget | budget | off | on"
# Other bots, which say things that look like questions, and would go on answering us for ever.
KNOWN_BOTS = frozenset(
    {
        *("nightbot", "streamelements", "streamlabs", "moobot", "fossabot", "wizebot", "botisimo", "botrixoficial"),
        *("sery_bot", "soundalerts", "kofistreambot", "pokemoncommunitygame", "deepbot", "phantombot", "mee6", "dyno"),
        *("carl-bot", "tangiabot", "frostytoolsdotcom", "blerp", "commanderroot", "slackbot", "waddlebot"),
    }
)


@dataclass(frozen=True, slots=True)
class AIChat:
    ai: AIService
    profiles: Profiles
    conversations: Conversations
    ledger: Ledger
    router: RouterService
    limiter: RateLimiter

    def ai_command(self, call: OutsideCall, *words: str) -> Said:
        """!ai, and every line and event that the module listens for."""
        if call.payload.trigger.type == "event":
            return self._hear(call)
        one_word = fold(words[0]) if len(words) == 1 else ""
        if one_word == "forget":
            return self._forget(call)
        if one_word == "budget":
            return self._budget(call)
        if one_word in ("off", "on"):
            return self._switch(call, is_on=one_word == "on")
        return self.ask(call, *words)

    def ask(self, call: OutsideCall, *words: str) -> Said:
        question = " ".join(words).strip()
        if not question:
            raise UsageError(USAGE if fold(call.payload.trigger.command) == "ai" else "Usage: !ask <question>")
        if self._is_off(call):
            raise UserError("The AI is off in this channel. A moderator turns it on with !ai on.")
        return self._answer(call, question, "command")

    def _hear(self, call: OutsideCall) -> Said:
        """Something that nobody asked us by command. What goes wrong then is in the log; only somebody who spoke to the
        bot is told."""
        trigger, profile = call.payload.trigger, self._profile(call)
        if self._is_ignored(call, profile) or self._is_off(call):
            return None
        heard = trigger.data.get("listen")
        if isinstance(heard, dict) and heard.get("match") == "mention":
            try:
                return self._answer(call, prompts.without_mention(trigger.raw), "mention")
            except NotSetUp:
                return None
        try:
            if trigger.message_type is MessageType.CHAT_MESSAGE:
                return self._answer_question(call, profile)
            return self._answer_event(call, profile)
        except (UserError, ProviderError):
            return None

    def _answer_question(self, call: OutsideCall, profile: Profile) -> Said:
        if not profile.answer_questions or not self._is_its_turn(call, "question"):
            return None
        return self._answer(call, call.payload.trigger.raw, "question")

    def _answer_event(self, call: OutsideCall, profile: Profile) -> Said:
        trigger = call.payload.trigger
        kind = trigger.message_type.value
        is_wanted = profile.event_responses and kind in profile.event_types
        if not is_wanted or not self.ai.is_set_up(call.community_id, profile.order):
            return None
        if not self._is_its_turn(call, kind):
            return None
        asked = prompts.for_event(
            profile,
            kind,
            trigger.data,
            trigger.raw,
            user_name=call.user_name,
            platform=call.payload.entity.platform,
        )
        text = self._get_text(call, asked, profile, "event")
        return say(profile.response_prefix + text, markup=None)

    def _answer(self, call: OutsideCall, question: str, asked_as: AskedAs) -> Said:
        profile = self._profile(call)
        asked = prompts.for_question(
            profile,
            question,
            user_name=call.user_name,
            platform=call.payload.entity.platform,
            before=self._recent(call, profile),
        )
        text = self._get_text(call, asked, profile, asked_as)
        if profile.context_enabled and profile.context_limit:
            with call.writing() as db:
                said = Exchange(question[: prompts.MAX_QUESTION_CHARS], text)
                own_id = call.payload.user.own_id
                self.conversations.add(db, call.community_id, call.entity_id, own_id, said)
        return say(profile.response_prefix + text, reply=True, markup=None)

    def _get_text(self, call: OutsideCall, asked: Asked, profile: Profile, asked_as: AskedAs) -> str:
        """What the model says, as it may be said here. Raises: UserError; ProviderError."""
        payer = self._payer(call, profile, asked_as)
        answer = call.look_up(
            "answer that", lambda left_s: self.ai.answer(asked, payer, profile.order, within_s=left_s)
        )
        prefix = profile.response_prefix
        text = Fitted.on(call.payload.entity.platform).fit(answer.text, prefix=prefix)
        if not text:
            raise UserError("The AI had nothing to say to that.")
        call.look_up("check the rules", lambda _: self.router.check_may_say(call.entity_id, text))
        return text[len(prefix) :]

    def _recent(self, call: OutsideCall, profile: Profile) -> list[Exchange]:
        if not profile.context_enabled or not profile.context_limit:
            return []
        with call.reading() as db:
            ids = call.payload.user.ids
            return self.conversations.recent(db, call.entity_id, ids, limit=profile.context_limit)

    def _forget(self, call: OutsideCall) -> Said:
        with call.writing() as db:
            forgotten = self.conversations.forget(db, call.entity_id, call.payload.user.ids)
        return say("I have forgotten what you asked here." if forgotten else "There is nothing to forget.", reply=True)

    def _budget(self, call: OutsideCall) -> Said:
        profile = self._profile(call)
        with call.reading() as db:
            spent = self.ledger.spent_today(db, call.community_id, call.payload.user.ids)
        budget = profile.budget
        return say(
            f"AI tokens today: you {spent.person:,} of {budget.person:,}, this community {spent.community:,} of"
            f" {budget.community:,}. They begin anew at midnight UTC.",
            reply=True,
        )

    def _switch(self, call: OutsideCall, *, is_on: bool) -> Said:
        if call.level < Level.MODERATOR:
            raise UserError("Only moderators turn the AI off and on.")
        with call.writing() as db:
            if is_on:
                self.conversations.turn_on(db, call.community_id, call.entity_id)
            else:
                self.conversations.turn_off(db, call.community_id, call.entity_id)
        return "The AI is on in this channel." if is_on else "The AI is off in this channel. !ai on turns it on again."

    def _profile(self, call: OutsideCall) -> Profile:
        return self.profiles.of(call.settings, has_own_key=self.ai.has_own_key(call.community_id))

    def _payer(self, call: OutsideCall, profile: Profile, asked_as: AskedAs) -> Payer:
        user = call.payload.user
        if asked_as == "event":
            # Nobody asked for it, so it counts against nobody's own budget.
            return Payer(call.community_id, asked_as, profile.budget)
        return Payer(call.community_id, asked_as, profile.budget, user.own_id, tuple(user.ids))

    def _is_off(self, call: OutsideCall) -> bool:
        with call.reading() as db:
            return self.conversations.is_off(db, call.entity_id)

    def _is_its_turn(self, call: OutsideCall, kind: str) -> bool:
        """Whether something unasked may be said: once a minute in a channel, for each kind."""
        if call.is_simulated:
            return True
        limit = Limit(f"ai:{kind}:{call.entity_id}", 1, "this channel")
        (decision,) = self.limiter.reserve([Request(f"ai:{call.payload.execution_id}", [limit])])
        return decision.allowed

    @staticmethod
    def _is_ignored(call: OutsideCall, profile: Profile) -> bool:
        user = call.payload.user
        names = {fold(name) for name in (user.name, user.display_name) if name}
        return bool(names & (KNOWN_BOTS | {fold(each.lstrip("@")) for each in profile.ignored_people}))
