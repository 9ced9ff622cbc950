"""What the assistant can refuse, and what can go wrong with a model.

AssistantError          a question is refused; nothing is stored. `.type` is a word for programs
├── EmptyText           there is nothing to answer
├── NoModelLoaded       nobody is there to answer
├── QueueFull           too many replies are under way; `.retry_after` in seconds
└── Closing             the application is shutting down

ModelError              a reply fails; the text so far is kept. `.type` is a word for programs
├── NoModel             there is none after all, or it was not ready in time
├── Unreachable         the serving layer cannot be reached, or went away in mid-answer
├── Overloaded          the engine has no room now
├── Refused             the engine did not accept the request; the text says why
│   └── PromptTooLong
└── Broken              generation failed, or the answer ended without its end

The text of each is a sentence for people.
"""

from __future__ import annotations


class AssistantError(Exception):
    type = "refused"


class EmptyText(AssistantError):
    type = "empty_text"


class NoModelLoaded(AssistantError):
    type = "no_model"


class QueueFull(AssistantError):
    type = "queue_full"

    def __init__(self, retry_after: int) -> None:
        when = "in a second" if retry_after == 1 else f"in {retry_after} seconds"
        super().__init__(f"Too many questions are waiting for their answers. Try again {when}.")
        self.retry_after = retry_after


class Closing(AssistantError):
    type = "closing"


class ModelError(Exception):
    type = "engine_failed"


class NoModel(ModelError):
    type = "no_model"


class Unreachable(ModelError):
    type = "engine_unreachable"


class Overloaded(ModelError):
    type = "engine_overloaded"


class Refused(ModelError):
    type = "engine_refused"


class PromptTooLong(Refused):
    type = "question_too_long"


class Broken(ModelError):
    pass
