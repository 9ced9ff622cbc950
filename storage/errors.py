"""The errors of storage. The message of each is a sentence for the reader.

StorageError
├── NotFound              this owner has no such conversation or message
├── UnknownMessage        the conversation has no such message
│   └── UnknownParent     the conversation has no such parent message
├── ClientIdReused        the same client id came with another body
├── StillAnswering        the conversation has a running reply
├── DatabaseUnavailable   the database cannot be read or written now
│   ├── DatabaseInUse     another process uses it
│   └── DiskFull          the disk is full; reading works, and so do the writes that free space
└── SchemaTooNew          a newer release wrote the database
"""

from __future__ import annotations


class StorageError(Exception):
    """The root of this folder's errors."""


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
