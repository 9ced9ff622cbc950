"""GGUF files with random weights that llama.cpp can load: models for tests, written in well under two
seconds.

The generated text has no meaning, but it looks like words: the output layer contains a bias for each token
(`_speakable`), and is random otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

import gguf
import numpy as np

END = "<|endoftext|>"
MARKERS = {"pre": "<fim_prefix>", "suf": "<fim_suffix>", "mid": "<fim_middle>", "pad": "<fim_pad>"}
NEVER, OFTEN = -40.0, 6.0  # added to a token's logit

COMMON = (
    "the a of to and in is it that for you with on as are be this can code function returns value "
    "list string number file line loop class def return if else import from not None True False print "
    "name test type error index key data read write open while range length array map sort find add "
    "remove first last"
)
WORDS = COMMON.split()
PIECES = ["\n", "\n\n", "    ", ".", ",", ":", "(", ")", "()", " = ", "[", "]", "Human", "Assistant", "-----"]


def write_tiny_gguf(
    path: Path,
    *,
    context: int = 2048,
    blocks: int = 1,
    width: int = 32,
    chat_template: str | None = None,
    seed: int = 0,
    ends: bool = False,
    wild: bool = False,
    infilling: bool = False,
    vocabulary: int = 0,
    heads: int = 2,
    quantised: bool = False,
) -> Path:
    """Write a StarCoder2 model with random weights. Returns the path.

    `ends`: it generates its end-of-text token about once in a dozen tokens, otherwise never. `wild`: it
    generates all 256 bytes equally often, so hardly ever valid UTF-8. `infilling`: it has `MARKERS` for the
    middle of a text, but generates none of them. `blocks=4, width=384` makes a model that reads some hundred
    tokens a second on one thread. `vocabulary`: the minimum number of tokens, filled up with pairs. `heads`:
    the number of attention heads, two of which have keys and values. `quantised`: 8 bits instead of 32.
    """
    random = np.random.default_rng(seed)
    tokens, merges = _vocabulary(vocabulary)
    marks = [END, *(MARKERS.values() if infilling else ())]
    tokens += marks[1:]
    writer = begun(path, "starcoder2", tokens, marks, merges, context=context, width=width, blocks=blocks)
    writer.add_feed_forward_length(4 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_pre("starcoder")
    if infilling:
        for part, mark in MARKERS.items():
            writer.add_uint32(f"tokenizer.ggml.fim_{part}_token_id", tokens.index(mark))
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    def weights(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[-1])).astype(np.float32)

    def add(name: str, tensor: np.ndarray) -> None:
        tensor = np.ascontiguousarray(tensor, dtype=np.float32)
        if quantised and tensor.ndim > 1:  # llama.cpp does not accept the others quantised
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)

    # The last normalisation passes a constant 1 as its dimension 0, so column 0 of the output layer is a
    # bias on each token's logit.
    passed, constant = np.ones(width), np.zeros(width)
    passed[0], constant[0] = 0, 1
    output = weights(len(tokens), width) * 2
    output[:, 0] = 0 if wild else _speakable(tokens)
    output[0, 0] = OFTEN + 4 if ends else NEVER
    output[len(tokens) - len(marks) + 1 :, 0] = NEVER
    add("token_embd.weight", weights(len(tokens), width) * np.sqrt(width))
    add("output_norm.weight", passed)
    add("output_norm.bias", constant)
    add("output.weight", output)
    for block in range(blocks):
        shapes = {
            "attn_q": (width, width),
            "attn_k": (2 * width // heads, width),
            "attn_v": (2 * width // heads, width),
            "attn_output": (width, width),
            "ffn_up": (4 * width, width),
            "ffn_down": (width, 4 * width),
        }
        for name, shape in shapes.items():
            add(f"blk.{block}.{name}.weight", weights(*shape))
            add(f"blk.{block}.{name}.bias", np.zeros(shape[0]))
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{block}.{name}.weight", np.ones(width))
            add(f"blk.{block}.{name}.bias", np.zeros(width))
    return finished(writer, path)


def begun(
    path: Path,
    architecture: str,
    tokens: Sequence[str],
    marks: Collection[str],
    merges: Sequence[str],
    *,
    context: int,
    width: int,
    blocks: int,
) -> gguf.GGUFWriter:
    """A file with a byte-level vocabulary, in which `marks` are special and the first token is the end."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("test")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    types = gguf.TokenType
    writer.add_token_types([types.CONTROL if token in marks else types.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    return writer


def finished(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_letters() -> dict[int, str]:
    """The letter of a byte-level vocabulary for each byte: itself if it is printable."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _vocabulary(least: int = 0) -> tuple[list[str], list[str]]:
    """Tokens and merges: the end token, all bytes, the beginnings of all words, and pairs of these tokens
    until there are `least`."""
    letters = byte_letters()
    tokens = [END, *letters.values()]
    known = set(tokens)
    merges = []
    for word in [*(" " + word for word in WORDS), *WORDS, *PIECES]:
        written = [letters[byte] for byte in word.encode()]
        for end in range(2, len(written) + 1):
            if (token := "".join(written[:end])) not in known:
                known.add(token)
                tokens.append(token)
                merges.append(f"{token[:-1]} {token[-1]}")
    for pair in itertools.product(tokens[1:], repeat=2):
        if len(tokens) >= least:
            break
        if (token := "".join(pair)) not in known:
            known.add(token)
            tokens.append(token)
            merges.append(" ".join(pair))
    return tokens, merges


def _speakable(tokens: Sequence[str]) -> np.ndarray:
    """The bias of each token: words and pieces are frequent, other printable ASCII is rare, the rest never
    comes."""
    letters = byte_letters()
    plain = {letters[byte] for byte in range(0x20, 0x7F)}
    often = {
        "".join(letters[byte] for byte in word.encode())
        for word in [*(" " + word for word in WORDS), *PIECES]
    }
    return np.array([OFTEN if t in often else 0.0 if t in plain else NEVER for t in tokens])
