"""GGUF files of models that say exactly what they are told to: any bytes, cut into any tokens, in any order.

A file holds many scripts. Each has a mark of its own that begins a prompt, and what the model says after it
is a question of two things only: which mark that was, and how many tokens have been read since.

It is an honest transformer of one block (a GPT-2) whose weights are worked out instead of trained. A vector
has four parts: who begins, who has begun, how far, and what to say.

- A mark's embedding is its code in the first part, a position's embedding its code in the third.
- The attention looks at the first token alone and copies its code into the second part.
- The feed-forward layer has a row for each token of each script, which answers to the codes of this script
  and this position together and to nothing else, and writes the code of the token into the fourth part.
- The output layer has the code of each token as its row.

Codes are random vectors: any two of so many dimensions are nearly at right angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tests.support.tiny_gguf import END, _byte_letters

PART = 96  # dimensions of a code
WIDTH = 4 * PART
BEGINS, BEGUN, PLACE, SAY = (slice(number * PART, (number + 1) * PART) for number in range(4))
HEADS = 3
EPSILON = 1e-6
FAINT = 0.1  # a mark's own code hardly counts beside its position's when the vector is normalised
STEEP, LEAST = 40.0, 1.8  # how a row answers to what agrees with it: two codes to 2, one of them to 1 at most
LOUD = 10.0  # length of what is to be said, beside 1 of the other parts

Told = bytes | str
"""The bytes of a token; a mark of the model is told as it is written."""


@dataclass(frozen=True)
class Script:
    """What is said after a prompt of so many tokens, and then the end of the text."""

    tokens: Sequence[Told]
    given: int = 1
    """Tokens: the mark that `prompt` writes, and one for each byte of what may follow it."""
    instead: Told = b" again"
    """What is said where the text would end and must not."""
    endless: bool = False
    """Its only token is said for ever."""


def prompt(name: str) -> str:
    """The beginning of a prompt that is answered by the script of this name."""
    return f"<|{name}|>"


def write_scripted_gguf(path: Path, scripts: Mapping[str, Script], *, context: int = 512) -> Path:
    """Write the model; returns the path. A thousand tokens of scripts take 2 MB."""
    random = np.random.default_rng(0)

    def codes(count: int) -> np.ndarray:
        drawn = random.standard_normal((count, PART))
        drawn -= drawn.mean(axis=1, keepdims=True)  # so that normalising shifts nothing
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    marks = [END, *(prompt(name) for name in scripts)]
    marks += sorted(
        {t for s in scripts.values() for t in (*s.tokens, s.instead) if isinstance(t, str)} - {*marks}
    )
    pieces = {t for s in scripts.values() for t in (*s.tokens, s.instead) if isinstance(t, bytes)}
    letters = _byte_letters()
    pieces |= {bytes([byte]) for byte in range(256)}
    ids = {told: number for number, told in enumerate([*marks, *sorted(pieces)])}
    written = [told if isinstance(told, str) else "".join(letters[byte] for byte in told) for told in ids]

    whose, places, said = codes(len(scripts)), codes(context), codes(len(ids))
    embeddings = np.zeros((len(ids), WIDTH))
    rows, texts = [], []
    for code, (name, script) in zip(whose, scripts.items(), strict=True):
        embeddings[ids[prompt(name)], BEGINS] = FAINT * code
        for number, told in enumerate([*script.tokens, *([] if script.endless else [END])]):
            row, text = np.zeros(WIDTH), np.zeros(WIDTH)
            row[BEGUN] = 2 * code if script.endless else code
            row[PLACE] = 0 if script.endless else places[script.given - 1 + number]
            text[SAY] = said[ids[told]]
            if told == END:
                text[SAY] += 0.8 * said[ids[script.instead]]
            rows.append(row)
            texts.append(text)

    # Normalised vectors have this length; the factors below take it away again.
    length = np.sqrt(WIDTH)
    first = np.sqrt(1 + FAINT**2)  # before the block, at the mark
    qkv, qkv_bias = np.zeros((3 * WIDTH, WIDTH)), np.zeros(3 * WIDTH)
    qkv_bias[0] = 1.0  # all ask for the same,
    qkv[WIDTH, PLACE] = (
        100 * np.sqrt(WIDTH / HEADS) / length * places[0]
    )  # and only the first position has it
    qkv[2 * WIDTH : 2 * WIDTH + PART, BEGINS] = np.eye(PART) * first / FAINT / length
    copied = np.zeros((WIDTH, WIDTH))
    copied[BEGUN, :PART] = np.eye(PART)
    up = np.array(rows) * STEEP / length * np.sqrt(2)
    down = np.array(texts).T * LOUD / (STEEP * (2 - LEAST))
    spoken = np.zeros((len(ids), WIDTH))
    spoken[:, SAY] = 3 * said

    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_name("scripted")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(len(rows))
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(written)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if isinstance(told, str) else gguf.TokenType.NORMAL for told in ids]
    )
    writer.add_token_merges([f"{letters[0]} {letters[0]}"])  # there must be one; this makes no token
    writer.add_bos_token_id(ids[END])
    writer.add_eos_token_id(ids[END])
    writer.add_add_bos_token(False)
    tensors = {
        "token_embd.weight": embeddings,
        "position_embd.weight": np.pad(places, ((0, 0), (PLACE.start, WIDTH - PLACE.stop))),
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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
