"""Values of people who sign in: their account, its role, and what a key may do. Standard library only."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    USER = "user"
    OPERATOR = "operator"  # sees /operator, and may do what changes the application


class KeyScope(enum.StrEnum):
    """What a program may do with a personal key."""

    READ = "read"  # read the owner's chats
    CHAT = "chat"  # read, ask, change and delete them
    MODEL = "model"  # use the exposed serving layer, if the operator exposes it
    OPERATOR = "operator"  # what an operator may do; counts only while the owner is one


@dataclass(frozen=True, slots=True)
class Account:
    """A person who has signed in. `owner` is whom the chats belong to.

    `provider` and `subject` say together who it is: "password" and a name, "proxy" and a name, or the
    address of an identity provider and its identifier of the person.
    """

    id: str
    owner: str
    provider: str
    subject: str
    name: str  # shown to people
    role: Role
