"""The errors of questions and replies. The message of each is a sentence for the reader.

AssistantError          the application refuses a request and stores nothing; `.type` is for programs
├── EmptyText           the question is blank
├── NoModelLoaded       neither a model nor documentation can answer
├── LicenceNotAccepted  the owner must first accept the model's licence; `.licence` is its id
├── QueueFull           too many replies wait; `.retry_after` is in seconds
├── LimitReached        somebody has asked as much as their site allows; `.retry_after` is in seconds
├── QuestionTooLarge    the question has more characters than its site allows
├── BadIdentity         a site's JWT does not name its user
├── NotTheOperator      only the operator may do this
├── NothingToFetch      there is no model to fetch, and no download to cancel
└── Closing             the application is shutting down

ModelError              a reply fails, and its text so far is kept; `.type` is for programs
├── NoDocumentation     the documentation cannot be read
├── NoModel             no model is loaded, or it was not ready in time
├── Unreachable         the serving layer cannot be reached, or the connection to it was lost
├── Overloaded          the engine is too busy to accept the prompt
├── Refused             the engine does not accept the request
│   └── PromptTooLong
└── GenerationFailed    the engine failed, or its stream ended before the answer was complete
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

    def __init__(self, licence: str, message: str) -> None:
        super().__init__(message)
        self.licence = licence


class QueueFull(AssistantError):
    type = "queue_full"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            f"Too many questions are waiting to be answered. Try again {_in_words(retry_after)}."
        )
        self.retry_after = retry_after


class LimitReached(AssistantError):
    type = "limit"

    def __init__(self, who: str, retry_after: int) -> None:
        super().__init__(f"{who}. Ask again {_in_words(retry_after)}.")
        self.retry_after = retry_after


class QuestionTooLarge(AssistantError):
    type = "question_too_long"


class BadIdentity(AssistantError):
    type = "bad_identity"


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


class GenerationFailed(ModelError):
    pass


def _in_words(seconds: int) -> str:
    if seconds <= 1:
        return "in a second"
    if seconds < 100:
        return f"in {seconds} seconds"
    minutes = -(-seconds // 60)
    return f"in {minutes} minutes" if minutes < 100 else f"in about {-(-minutes // 60)} hours"
