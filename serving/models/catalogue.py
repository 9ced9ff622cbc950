"""The catalogue of models that we recommend, and the meaning of `--model`.

Sizes are approximate. Before a download the hub reports the exact size, and the hash that verifies the file.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GB = 10**9

# Memory that the application and the system need besides the model.
OTHERS = GB // 2
# Memory that we assume for the context and the caches of any other file.
CONTEXT_MEMORY = GB
LONGEST_NAME = 200  # bytes in the name of a folder or file; systems allow 255


class UnknownModel(ValueError):
    """The text says what `--model` may name instead."""


@dataclass(frozen=True, slots=True)
class Licence:
    id: str  # the identifier in SPDX, or else on the hub
    name: str
    url: str  # the address of its terms
    must_accept: bool = False  # it forbids some uses, so that users must agree to its terms first


APACHE = Licence("apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0")
OPENRAIL = Licence(
    "bigcode-openrail-m",
    "BigCode OpenRAIL-M v1",
    "https://huggingface.co/spaces/bigcode/bigcode-model-license-agreement",
    must_accept=True,
)
_LICENCES = {
    licence.id: licence
    for licence in (APACHE, OPENRAIL, Licence("mit", "MIT License", "https://opensource.org/license/mit"))
}


@dataclass(frozen=True, slots=True)
class Infilling:
    """The markers in a prompt that make a model fill in the middle of a text."""

    prefix: str
    suffix: str
    middle: str


_STARCODER = Infilling("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
_QWEN = Infilling("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file on the hub. Unknown properties are None."""

    name: str  # the name for `--model`
    title: str  # the name that the reader sees
    repo: str
    file: str
    of: str | None = None  # the id of the original model on the hub
    bytes: int | None = None
    sha256: str | None = None
    licence: Licence | None = None
    context: int | None = None  # the number of tokens that the model was trained for
    is_chat: bool | None = None
    """It was trained on chats and has its own chat template. A base model gets our prompt template."""
    infilling: Infilling | None = None
    memory: int | None = None  # bytes of memory for the model and its context

    @property
    def converted_by(self) -> str | None:
        """The author of the file, if that is not the author of the model."""
        author = self.repo.partition("/")[0]
        return None if self.of is None or self.of.startswith(f"{author}/") else author

    def path(self, models: Path) -> Path:
        """The path of the file in the folder of models."""
        return models.joinpath(*self.repo.split("/"), *self.file.split("/"))


_ChatModel = functools.partial(Model, licence=APACHE, is_chat=True)
_StarCoder = functools.partial(Model, licence=OPENRAIL, is_chat=False, infilling=_STARCODER)


def _qwen(size: str, quantisation: str, *, bytes: int, memory: int) -> Model:
    name = f"Qwen2.5-Coder-{size}-Instruct"
    return _ChatModel(
        name=f"qwen2.5-coder-{size.lower()}",
        title=f"Qwen2.5-Coder {size} Instruct",
        repo=f"Qwen/{name}-GGUF",
        file=f"{name}-{quantisation}.gguf".lower(),
        of=f"Qwen/{name}",
        context=32_768,
        infilling=_QWEN,
        bytes=bytes,
        memory=memory,
    )


def _starcoder2(size: str, *, bytes: int, memory: int) -> Model:
    name = f"starcoder2-{size.lower()}"
    return _StarCoder(
        name=name,
        title=f"StarCoder2 {size}",
        repo=f"second-state/StarCoder2-{size}-GGUF",
        file=f"{name}-Q4_K_M.gguf",
        of=f"bigcode/{name}",
        context=16_384,
        bytes=bytes,
        memory=memory,
    )


CATALOGUE = (
    _qwen("1.5B", "q4_k_m", bytes=1_120_000_000, memory=23 * GB // 10),
    _qwen("0.5B", "q8_0", bytes=680_000_000, memory=14 * GB // 10),
    _qwen("7B", "q4_k_m", bytes=4_680_000_000, memory=65 * GB // 10),
    _ChatModel(
        name="qwen3-coder-30b",
        title="Qwen3-Coder 30B A3B Instruct",
        repo="unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF",
        file="Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf",
        of="Qwen/Qwen3-Coder-30B-A3B-Instruct",
        bytes=18_600_000_000,
        context=262_144,
        infilling=_QWEN,
        memory=21 * GB,
    ),
    _ChatModel(
        name="devstral-24b",
        title="Devstral Small 24B",
        repo="mistralai/Devstral-Small-2507_gguf",
        file="Devstral-Small-2507-Q4_K_M.gguf",
        of="mistralai/Devstral-Small-2507",
        bytes=14_300_000_000,
        context=131_072,
        memory=18 * GB,
    ),
    _starcoder2("3B", bytes=1_850_000_000, memory=3 * GB),
    _starcoder2("7B", bytes=4_400_000_000, memory=6 * GB),
    _starcoder2("15B", bytes=9_900_000_000, memory=12 * GB),
    _StarCoder(
        name="starcoder",
        title="StarCoder 15B",
        repo="mradermacher/starcoder-GGUF",
        file="starcoder.Q4_K_M.gguf",
        of="bigcode/starcoder",
        bytes=10_200_000_000,
        context=8_192,
        memory=12 * GB,
    ),
)
"""The first model is the default."""

# The models that `--model auto` may choose, the best first.
AUTO = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")

_ON_THE_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+):(?P<file>[^:]+)")
_PART_OF_MANY = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf$")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def find(text: str) -> Model | Path:
    """The model or the file that `--model` names, except `auto`. Raises `UnknownModel`."""
    if os.path.isfile(text):  # `Path.is_file` raises an error if a name is too long
        return Path(text)
    if named := _ON_THE_HUB.fullmatch(text):
        if not is_safe_path(named["repo"], named["file"]):
            raise UnknownModel(f"--model {text}: REPO:FILE names a file of a repository on the hub")
        if _PART_OF_MANY.search(named["file"]):
            raise UnknownModel(
                f"--model {text}: this is one of several files of a model. Name a model that is a single "
                "file, or copy all files to this machine and give the path of the first."
            )
        return on_hub(named["repo"], named["file"])
    if text.lower().endswith(".gguf") or text.startswith(("/", ".", "~")):
        return Path(text)
    by_name = {model.name: model for model in CATALOGUE}
    if (model := by_name.get(text.lower())) is not None:
        return model
    if _REPO.fullmatch(text):
        if known := _known(text):
            raise UnknownModel(f"--model {text}: did you mean {known.name}? To name a file, write REPO:FILE.")
        raise UnknownModel(f"--model {text}: which of its files? Name one, for example {text}:FILE.gguf")
    close = [name for name in by_name if text.lower() in name] or difflib.get_close_matches(
        text.lower(), by_name, n=3, cutoff=0.5
    )
    hint = f"did you mean {either(close)}?" if close else f"there are {', '.join(by_name)}."
    raise UnknownModel(
        f"--model {text}: there is no such model; {hint} "
        "It may also be auto, REPO:FILE, a GGUF file, or none."
    )


def is_safe_path(repo: str, file: str) -> bool:
    """Whether the file stays inside the folder of models, and its name may get longer during the download."""
    parts = [*repo.split("/"), *file.split("/")]
    return all(part.strip(".") and len(os.fsencode(part)) <= LONGEST_NAME for part in parts)


def on_hub(repo: str, file: str) -> Model:
    """The catalogue's entry for a file on the hub, or a new one for an unknown file."""
    for model in CATALOGUE:
        if (repo.lower(), file.lower()) == (model.repo.lower(), model.file.lower()):
            return model
    title = file.rpartition("/")[2]
    licence, infilling = licence_of(repo), infilling_of(repo)
    return Model(
        name=f"{repo}:{file}", title=title, repo=repo, file=file, licence=licence, infilling=infilling
    )


def choose(models: Path, memory: int | None) -> Model | Path | None:
    """The model for a machine with so many bytes of memory; None if it is too small for any model. A model in
    the folder `models` is preferred to one that must be fetched."""

    def fits(needed: int | None) -> bool:
        return memory is None or needed is None or needed + OTHERS <= memory

    by_name = {model.name: model for model in CATALOGUE}
    wanted = next((by_name[name] for name in AUTO if fits(by_name[name].memory)), None)
    if wanted is not None and wanted.path(models).is_file():
        return wanted
    here = [model for model in CATALOGUE if model.path(models).is_file() and fits(model.memory)]
    if here:
        return max(here, key=lambda model: (bool(model.is_chat), model.memory or 0))
    return next((path for path in files_in(models) if fits(path.stat().st_size + CONTEXT_MEMORY)), wanted)


def files_in(models: Path) -> list[Path]:
    """All model files in a folder, the newest first."""
    found = [
        path
        for path in models.rglob("*.gguf")
        if path.is_file() and "mmproj" not in path.name and not _PART_OF_MANY.search(path.name)
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def smallest() -> Model:
    return min((model for model in CATALOGUE if model.name in AUTO), key=lambda model: model.memory or 0)


def licence_of(
    model_id: str | None, licence: str | None = None, name: str | None = None, url: str | None = None
) -> Licence | None:
    """The licence of a model, from its id (a repository or a file name) or else from its metadata."""
    if (known := _known(model_id)) is not None and known.licence is not None:
        return known.licence
    if identifier := (licence or "").strip().lower():
        if identifier in _LICENCES:
            return _LICENCES[identifier]
        must_accept = "rail" in re.split(r"[^a-z]", identifier.replace("openrail", "rail"))
        link = "https://www.licenses.ai/" if must_accept else f"https://spdx.org/licenses/{licence}"
        return Licence(str(licence), name or str(licence), url or link, must_accept)
    # BigCode's licence also applies to every model that is derived from one of its models.
    return OPENRAIL if re.search(r"starcoder|santacoder", _last(model_id or "")) else None


def infilling_of(model_id: str | None) -> Infilling | None:
    """The infilling markers of a model, from its id."""
    if (known := _known(model_id)) is not None:
        return known.infilling
    name = _last(model_id or "")
    if "starcoder" in name:
        return _STARCODER
    return _QWEN if re.search(r"qwen(2\.5|3)-coder", name) else None


def _known(model_id: str | None) -> Model | None:
    """The catalogue's entry for an id on the hub, or for a file name."""
    wanted = (model_id or "").lower()
    for model in CATALOGUE:
        names = (model.of, model.repo, f"{model.repo}:{model.file}")
        if wanted in {str(name).lower() for name in names} or _last(wanted) == _last(model.file):
            return model
    return None


def _last(model_id: str) -> str:
    return re.split(r"[/\\]", model_id.lower())[-1]


def either(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def in_words(size: int) -> str:
    """A number of bytes as text, such as `1.1 GB`."""
    for unit, one in (("GB", GB), ("MB", 10**6), ("kB", 1000)):
        if size >= one:
            number = size / one
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{size} B"
