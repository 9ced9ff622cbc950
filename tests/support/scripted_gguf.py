"""GGUF files of models that generate a scripted text: any bytes, cut into any tokens, in any order.

A file contains many scripts. Each has a special token that begins its prompts. The next token depends only on
that special token and on the number of tokens since.

The model is a real transformer of one block (a GPT-2), with computed weights instead of trained ones. A
vector has four parts: the script of this token, the script of the text, the position, and the next token.

- The embedding of a special token has its code in the first part, that of a position its code in the third.
- The attention reads only the first token, and copies its code into the second part.
- The feed-forward layer has a row for each token of each script. It responds only to the codes of this script
  and this position together, and writes the code of the token into the fourth part.
- The rows of the output layer are the codes of the tokens.

Codes are random vectors: in so many dimensions any two of them are nearly at right angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tests.support.tiny_gguf import END, begun, byte_letters, finished

PART = 96  # dimensions of a code
WIDTH = 4 * PART
OWN_SCRIPT, TEXT_SCRIPT, POSITION, NEXT = (slice(number * PART, (number + 1) * PART) for number in range(4))
HEADS = 3
EPSILON = 1e-6
FAINT = 0.1  # of a special token's code, so that the position dominates the normalised vector
# The slope and the threshold of a row: both codes together give 2, one alone at most 1.
STEEP, LEAST = 40.0, 1.8
LOUD = 10.0  # the length of the fourth part; the others have length 1

TokenText = bytes | str
"""The bytes of a token, or the written form of a special token."""


@dataclass(frozen=True)
class Script:
    """The text after a prompt, which then ends."""

    tokens: Sequence[TokenText]
    given: int = 1
    """The tokens of the prompt: the one that `prompt` writes, and one for each byte after it."""
    instead: TokenText = b" again"
    """The token that comes if the text must not end yet."""
    endless: bool = False
    """It repeats its only token for ever."""


def prompt(name: str) -> str:
    """The beginning of a prompt for the script of this name."""
    return f"<|{name}|>"


def write_scripted_gguf(path: Path, scripts: Mapping[str, Script], *, context: int = 512) -> Path:
    """Write the model. Returns the path. A thousand tokens of scripts take 2 MB."""
    random = np.random.default_rng(0)

    def codes(count: int) -> np.ndarray:
        drawn = random.standard_normal((count, PART))
        drawn -= drawn.mean(axis=1, keepdims=True)  # so that normalisation shifts nothing
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    specials = [END, *(prompt(name) for name in scripts)]
    used = {token for script in scripts.values() for token in (*script.tokens, script.instead)}
    specials += sorted({token for token in used if isinstance(token, str)} - {*specials})
    letters = byte_letters()
    pieces = {token for token in used if isinstance(token, bytes)} | {bytes([byte]) for byte in range(256)}
    ids = {token: number for number, token in enumerate([*specials, *sorted(pieces)])}
    written = [token if isinstance(token, str) else "".join(letters[byte] for byte in token) for token in ids]

    scripts_codes, positions, tokens_codes = codes(len(scripts)), codes(context), codes(len(ids))
    embeddings = np.zeros((len(ids), WIDTH))
    rows, texts = [], []
    for code, (name, script) in zip(scripts_codes, scripts.items(), strict=True):
        embeddings[ids[prompt(name)], OWN_SCRIPT] = FAINT * code
        for number, token in enumerate([*script.tokens, *([] if script.endless else [END])]):
            row, text = np.zeros(WIDTH), np.zeros(WIDTH)
            row[TEXT_SCRIPT] = 2 * code if script.endless else code
            row[POSITION] = 0 if script.endless else positions[script.given - 1 + number]
            text[NEXT] = tokens_codes[ids[token]]
            if token == END:
                text[NEXT] += 0.8 * tokens_codes[ids[script.instead]]
            rows.append(row)
            texts.append(text)

    # Normalised vectors have this length; the factors below cancel it.
    length = np.sqrt(WIDTH)
    first = np.sqrt(1 + FAINT**2)  # of the special token's vector before the block
    qkv, qkv_bias = np.zeros((3 * WIDTH, WIDTH)), np.zeros(3 * WIDTH)
    qkv_bias[0] = 1.0  # all positions send the same query,
    # and only the first position has the key for it.
    qkv[WIDTH, POSITION] = 100 * np.sqrt(WIDTH / HEADS) / length * positions[0]
    qkv[2 * WIDTH : 2 * WIDTH + PART, OWN_SCRIPT] = np.eye(PART) * first / FAINT / length
    copied = np.zeros((WIDTH, WIDTH))
    copied[TEXT_SCRIPT, :PART] = np.eye(PART)
    up = np.array(rows) * STEEP / length * np.sqrt(2)
    down = np.array(texts).T * LOUD / (STEEP * (2 - LEAST))
    spoken = np.zeros((len(ids), WIDTH))
    spoken[:, NEXT] = 3 * tokens_codes

    # llama.cpp requires a merge; this one makes no token.
    merges = [f"{letters[0]} {letters[0]}"]
    writer = begun(path, "gpt2", written, {*specials}, merges, context=context, width=WIDTH, blocks=1)
    writer.add_feed_forward_length(len(rows))
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_pre("gpt-2")
    tensors = {
        "token_embd.weight": embeddings,
        "position_embd.weight": np.pad(positions, ((0, 0), (POSITION.start, WIDTH - POSITION.stop))),
        "blk.0.attn_qkv.weight": qkv,
        "blk.0.attn_qkv.bias": qkv_bias,
        "blk.0.attn_output.weight": copied,
        "blk.0.attn_output.bias": np.zeros(WIDTH),
        "blk.0.ffn_up.weight": up,
        "blk.0.ffn_up.bias": np.full(len(rows), -STEEP * LEAST),
        "blk.0.ffn_down.weight": down,
        "blk.0.ffn_down.bias": np.zeros(WIDTH),
        "output.weight": spoken,
    }
    for norm in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        tensors |= {f"{norm}.weight": np.ones(WIDTH), f"{norm}.bias": np.zeros(WIDTH)}
    for name, tensor in tensors.items():
        half = name in ("blk.0.ffn_up.weight", "blk.0.ffn_down.weight")  # nearly all of the file
        writer.add_tensor(name, np.ascontiguousarray(tensor, dtype=np.float16 if half else np.float32))
    return finished(writer, path)
