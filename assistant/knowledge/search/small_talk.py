"""Tells messages that documentation cannot help with: greetings, thanks, praise, and requests for poems."""

from __future__ import annotations

import re

LONGEST_SMALL_TALK = 400  # characters
# Words of greeting, thanks, praise, assent, apology and farewell.
_SOCIAL = frozenset(
    """
    hello hi hiya hey howdy welcome morning afternoon evening night today tomorrow weekend bye goodbye later
    soon see thanks thx ty cheers please sorry apologies pardon mistake oops great good nice cool fine ok okay
    alright awesome excellent perfect wonderful amazing brilliant fantastic super lovely neat right correct
    wrong exactly indeed agreed yes yeah yep yup sure no nope wow ah oh haha lol hm hmm love like appreciate
    fun funny work works worked working help helps helped helpful solved fixed happy glad clear understood
    got sense done doing going well enough problem smart clever better best hallo danke bitte tschüss bonjour
    salut merci beaucoup hola gracias adiós olá obrigado obrigada tchau 你好 谢谢 再见 こんにちは ありがとう
    """.split()  # noqa: SIM905 - a table to read
)
_FUNCTION_WORDS = frozenset(
    """
    a an the and but or so very really quite much lot all too also just now again here there still i i'm me my
    we us our you you're your yours yourself he she they it it's that's this that these those them one is are
    am was were be been do does did have has had will would can could should may might must let let's in on
    at of for to with from about as by up out day time make makes
    """.split()  # noqa: SIM905 - a table to read
)
_QUESTION_WORDS = frozenset({"how", "what", "what's", "who", "who's", "when", "where", "which", "why"})
_POINTERS = frozenset({"it", "it's", "that", "that's", "this", "these", "those", "them", "one"})
_LIKE_CODE = re.compile(r"[`_=<>{}\[\]\\/#@$%^&*|+~\d]|\w[.(]\w")
# A request for a text that no documentation has: a verb of writing, and a kind of literature as its object.
_INVENTION = re.compile(
    r"(?:(?:hey|hi|ok|please|now|and|could|can|would|will|you|i|i'd|want|need|like|to|for|let's)[ ,]+)*"
    r"(?:write|tell|compose|sing|make up|give|recite|create|invent|draft|improvise)"
    r"(?: (?!for |of |that |to |with |in )\w+){0,4}"
    r" (?:poems?|haikus?|limericks?|sonnets?|verses?|rhymes?|ballads?|odes?|songs?|lyrics|lullab(?:y|ies)"
    r"|raps?|jokes?|puns?|riddles?|stor(?:y|ies)|(?:fairy ?)?tales?|fables?|legends?|novels?|essays?"
    r"|speech(?:es)?|toasts?|prayers?|compliments?)"
    r"(?=$| *[.,;:!?]| (?:about|on|of|for|with|in|that|who|where|which|to|please)\b)"
)


def may_need_documentation(message: str) -> bool:
    """Whether documentation may help to answer a message; False for small talk and requests for poems.

    How sure a search is does not tell: after a question, "thanks, that worked" is searched for together with
    that question, as "and with a timeout?" must be. So this looks at the words. A message of nothing but
    greetings, thanks, praise and function words asks for nothing. A question of such words that is put to
    "you" is about the assistant, unless it points at something ("can you do that?").
    """
    plain = message.lower().replace("’", "'").replace("thank you", "thanks").strip()
    if len(plain) > LONGEST_SMALL_TALK or _LIKE_CODE.search(plain):
        return True
    if _INVENTION.match(plain):
        return False
    words = set(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", plain))
    if "?" not in plain and not words & _QUESTION_WORDS:
        return not (words & _SOCIAL and words <= _SOCIAL | _FUNCTION_WORDS)
    is_about_assistant = bool(words & {"you", "your", "yours", "you're"}) and not words & _POINTERS
    return not (is_about_assistant and words <= _SOCIAL | _FUNCTION_WORDS | _QUESTION_WORDS)
