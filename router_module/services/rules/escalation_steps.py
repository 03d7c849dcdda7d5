"""The steps of a rule's escalation, as they come over HTTP, from an import, and out of the table."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, model_validator
from waddlebot.base.contracts import Strict

MAX_STEPS = 10
MAX_WITHIN_S = 30 * 86_400
# What Twitch takes; Discord takes 28 days.
MAX_TIMEOUT_S = 1_209_600
StepAction = Literal["warn", "delete", "timeout", "ban"]


class Step(Strict):
    """From the `after`th time within so many seconds on, this is done instead of what the rule does."""

    after: int = Field(ge=1, le=1000)
    within_s: int = Field(86_400, ge=1, le=MAX_WITHIN_S)
    action: StepAction
    # Of a timeout.
    duration_s: int | None = Field(None, ge=1, le=MAX_TIMEOUT_S)

    @model_validator(mode="after")
    def _only_timeouts_last(self) -> Step:
        if self.duration_s is not None and self.action != "timeout":
            raise ValueError("only a timeout has a duration_s")
        return self


def _in_order(steps: list[Step]) -> list[Step]:
    if len({step.after for step in steps}) < len(steps):
        raise ValueError("two steps begin after the same number")
    return sorted(steps, key=lambda step: step.after)


Steps = Annotated[list[Step], Field(max_length=MAX_STEPS), AfterValidator(_in_order)]
STEPS: TypeAdapter[list[Step]] = TypeAdapter(Steps)
