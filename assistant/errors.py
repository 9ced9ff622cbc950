"""What the assistant can refuse, and what can go wrong with a model.

AssistantError          a question is refused; nothing is stored. `.type` is a word for programs
├── EmptyText           there is nothing to answer
├── NoModelLoaded       nobody is there to answer
├── LicenceNotAccepted  the model's licence asks for an acceptance first; `.licence` is its id
├── QueueFull           too many replies are under way; `.retry_after` in seconds
├── NotTheOperator      only who runs the application may do this
├── NothingToFetch      there is no model whose file could be fetched, or given up
└── Closing             the application is shutting down

ModelError              a reply fails; the text so far is kept. `.type` is a word for programs
├── NoDocumentation     the documentation cannot be read after all
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


class LicenceNotAccepted(AssistantError):
    type = "licence_not_accepted"

    def __init__(self, licence: str, words: str) -> None:
        super().__init__(words)
        self.licence = licence


class QueueFull(AssistantError):
    type = "queue_full"

    def __init__(self, retry_after: int) -> None:
        when = "in a second" if retry_after == 1 else f"in {retry_after} seconds"
        super().__init__(f"Too many questions are waiting for their answers. Try again {when}.")
        self.retry_after = retry_after


class NotTheOperator(AssistantError):
    type = "not_the_operator"


class NothingToFetch(AssistantError):
    type = "nothing_to_fetch"


class Closing(AssistantError):
    type = "closing"


class ModelError(Exception):
    type = "engine_failed"


class NoDocumentation(ModelError):
    type = "no_documentation"


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
