#!/usr/bin/env python3
"""A tiny model of the Llama 3.1 kind as a GGUF file, with rope_freqs.weight, and the logits that transformers has for it.

  python3 tests/golden/gguf_model.py        writes tests/golden/gguf/llama31.gguf and llama31.safetensors

Tensors and values are those that llama.cpp's converter writes: rows of q and k with rotary pairs side by side, and one
factor per pair for the llama3 scaling.
"""
import math
import pathlib

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

import model_cases

OUT = pathlib.Path(__file__).resolve().parent / "gguf"
ROPE = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192)
WORDS = ["<|begin_of_text|>", "<|eot_id|>", *"abcdefghijklmnopqrstuvwxyz0123456789", "\u0120", "an", "\u0120an", "the"]
MERGES = ["a n", "\u0120 an"]  # "the" is a token without a merge: Llama 3 takes whole words first
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def config():
    return transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=1, rope_parameters=ROPE)


def rope_factors(head_dim):
    """As convert_hf_to_gguf.py computes them, in float."""
    frequencies = 1.0 / (ROPE["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    low, high, context = ROPE["low_freq_factor"], ROPE["high_freq_factor"], ROPE["original_max_position_embeddings"]
    factors = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(ROPE["factor"])
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / ROPE["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def interleaved(weight, heads):
    """Rows of q or k from halves (i, i + d/2) to neighbours (2i, 2i + 1)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def gguf_tensors(model):
    c = model.config
    yield "rope_freqs.weight", rope_factors(c.head_dim)
    for name, value in model.state_dict().items():
        array = value.numpy()
        if name == "model.embed_tokens.weight":
            yield "token_embd.weight", array
        elif name == "model.norm.weight":
            yield "output_norm.weight", array
        elif name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            if part == "self_attn.q_proj":
                array = interleaved(array, c.num_attention_heads)
            elif part == "self_attn.k_proj":
                array = interleaved(array, c.num_key_value_heads)
            yield f"blk.{layer}.{PARTS[part]}.weight", array


def write(model, path):
    c = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny 3.1")
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(ROPE["rope_theta"])
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(WORDS)
    writer.add_token_types([gguf.TokenType.CONTROL if w.startswith("<|") else gguf.TokenType.NORMAL for w in WORDS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, array in gguf_tensors(model):
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    OUT.mkdir(exist_ok=True)
    model = transformers.AutoModelForCausalLM.from_config(config(), attn_implementation="eager").eval()
    model_cases.randomise("gguf_llama31", model)
    write(model, OUT / "llama31.gguf")
    tokens = torch.randint(0, len(WORDS), (40,), generator=model_cases.generator("gguf_llama31", "tokens"))
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0]
    save_file({"tokens": tokens.numpy().astype(np.int32), "logits": logits.numpy()}, OUT / "llama31.safetensors")


if __name__ == "__main__":
    main()
