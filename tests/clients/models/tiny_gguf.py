"""Writes the smallest language model that llama.cpp runs: two layers of random weights over single bytes.

What it says is noise. It reads, streams, is cut and is killed like any other.
"""

from pathlib import Path

import gguf
import numpy

WIDTH = 64
HEADS = 4
LAYERS = 2
INNER = 128
CONTEXT = 2048


def write(path: Path) -> Path:
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    # One for each printable character, so that what is said can be read.
    letters = [b"\xe2\x96\x81", *(bytes([byte]) for byte in range(33, 127))]
    tokens += letters
    kinds += [gguf.TokenType.NORMAL] * len(letters)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    random = numpy.random.default_rng(7)

    def matrix(name, *shape):
        writer.add_tensor(name, (random.standard_normal(shape) * 0.2).astype(numpy.float32))

    def ones(name):
        writer.add_tensor(name, numpy.ones(WIDTH, dtype=numpy.float32))

    matrix("token_embd.weight", len(tokens), WIDTH)
    ones("output_norm.weight")
    matrix("output.weight", len(tokens), WIDTH)
    for layer in range(LAYERS):
        of_layer = f"blk.{layer}"
        ones(f"{of_layer}.attn_norm.weight")
        ones(f"{of_layer}.ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{of_layer}.{name}.weight", WIDTH, WIDTH)
        matrix(f"{of_layer}.ffn_gate.weight", INNER, WIDTH)
        matrix(f"{of_layer}.ffn_up.weight", INNER, WIDTH)
        matrix(f"{of_layer}.ffn_down.weight", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
