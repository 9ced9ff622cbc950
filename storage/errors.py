"""What storage can refuse.

StorageError
├── NotFound              no such conversation or message for this owner
├── UnknownMessage        the message is not one of this conversation
│   └── UnknownParent     so is the parent
├── ClientIdReused        the client id came before, with another body
├── StillAnswering        the conversation has a running reply
├── DatabaseUnavailable   the database cannot be read or written now
│   ├── DatabaseInUse     another process has it
│   └── DiskFull          there is no room; it can be read, and what makes room is written
└── SchemaTooNew          a newer release wrote the database
"""

from __future__ import annotations


class StorageError(Exception):
    """The root of this folder's errors; the text is a sentence for people."""


class NotFound(StorageError):
    pass


class UnknownMessage(StorageError):
    pass


class UnknownParent(UnknownMessage):
    pass


class ClientIdReused(StorageError):
    pass


class StillAnswering(StorageError):
    pass


class DatabaseUnavailable(StorageError):
    pass


class DatabaseInUse(DatabaseUnavailable):
    pass


class DiskFull(DatabaseUnavailable):
    pass


class SchemaTooNew(StorageError):
    pass
