"""Whether an owner may use the model: some licences have to be accepted first."""

from __future__ import annotations

from assistant.engine import Licence
from assistant.errors import LicenceNotAccepted
from assistant.served import ServedModel
from storage.errors import NotFound
from storage.owners import OwnerStore


class Licences:
    """The licence of the model that is served now, and who has accepted it."""

    def __init__(self, owners: OwnerStore, served: ServedModel) -> None:
        self._owners = owners
        self._served = served

    async def accept(self, owner: str, licence_id: str) -> None:
        """Record that an owner accepts the model's licence. Raises `NotFound` for any other licence."""
        licence = self._served.status.licence
        if licence is None or licence.id != licence_id:
            raise NotFound("No model here comes under that licence.")
        await self._owners.accept(owner, licence_id)

    async def may_use(self, owner: str, licence: Licence) -> bool:
        """Whether an owner may use what comes under a licence."""
        return not licence.must_accept or await self._owners.has_accepted(owner, licence.id)

    async def check(self, owner: str) -> None:
        """Raises `LicenceNotAccepted` if the owner has to accept the model's licence first."""
        licence = self._served.status.licence
        if licence is not None and not await self.may_use(owner, licence):
            model = self._served.status.model or "The model"
            raise LicenceNotAccepted(
                licence.id,
                f"{model} comes under the {licence.name}, which forbids some "
                f"uses. Read {licence.url} and accept it in the page, or by PUT /api/licences/{licence.id}.",
            )
