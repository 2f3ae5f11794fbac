"""The tiny models of model.py: one per supported family, with the settings that are easy to get wrong.

Everything is small and odd: widths that are no multiple of a vector register, an odd feed-forward width, an odd
vocabulary, one key/value head for several query heads. Weights are drawn far larger than a real initialisation, so that
a mistake anywhere moves the logits by much more than rounding does.
"""
import dataclasses
import zlib

import torch
import transformers

VOCABULARY = 67
LENGTHS = (11, 5, 19)  # tokens of the three records; 19 is longer than mistral's window
WIDTH = dict(vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)
QKVO = ["q_proj", "v_proj"]


@dataclasses.dataclass
class Case:
    """One model: its configuration, and which of the costlier expectations are kept for it."""
    name: str
    config: object
    targets: list                   # of the second adapter
    rank_pattern: dict
    alpha_pattern: dict
    full: bool = False              # gradients and steps of all weights
    records: bool = False           # gradients of each record alone
    extras: bool = False            # LoRA+, frozen A, SGD, the adapter after ten steps
    bf16_shards: bool = False       # stored as bfloat16 in two files
    old_style_config: bool = False  # rope_theta, rope_scaling and torch_dtype as transformers 4 wrote them
    bare_copy: bool = False         # also saved under the tensor names of the hub's gpt2: no "transformer."


def decoder(name, config, **kwargs):
    return Case(name, config, QKVO, {"layers.1.self_attn.v_proj": 6}, {"q_proj": 10, "layers.0.self_attn.v_proj": 3},
                **kwargs)


def cases():
    llama3_rope = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                       original_max_position_embeddings=64)
    return [
        decoder("llama", transformers.LlamaConfig(
            **{**WIDTH, "num_hidden_layers": 3}, intermediate_size=40, tie_word_embeddings=True, rms_norm_eps=1e-5),
            full=True, records=True, extras=True),
        decoder("llama3_rope", transformers.LlamaConfig(
            **WIDTH, intermediate_size=40, tie_word_embeddings=False, rms_norm_eps=1e-5, rope_parameters=llama3_rope),
            old_style_config=True),
        decoder("llama_bf16", transformers.LlamaConfig(
            **WIDTH, intermediate_size=40, tie_word_embeddings=True, rms_norm_eps=1e-5), bf16_shards=True),
        decoder("mistral", transformers.MistralConfig(
            **{**WIDTH, "num_key_value_heads": 1}, intermediate_size=37, tie_word_embeddings=False, sliding_window=7,
            rms_norm_eps=1e-5)),
        decoder("qwen2", transformers.Qwen2Config(
            **WIDTH, intermediate_size=37, tie_word_embeddings=False, rms_norm_eps=1e-6,
            rope_parameters=dict(rope_type="default", rope_theta=1e6))),
        decoder("qwen3", transformers.Qwen3Config(
            **WIDTH, head_dim=8, intermediate_size=40, tie_word_embeddings=True, rms_norm_eps=1e-6,
            rope_parameters=dict(rope_type="default", rope_theta=1e6)), full=True),
        Case("gpt2", transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=64, n_embd=20, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0), ["c_attn"], {"h.1.attn.c_attn": 6},
            {"h.0.attn.c_attn": 10}, full=True, bare_copy=True),
    ]


def generator(*address):
    """A draw has an address: the same for every version of the libraries and every order of tensors."""
    return torch.Generator().manual_seed(zlib.crc32("/".join(map(str, address)).encode()))


def randomise(case_name, module):
    """Overwrites every parameter: gains around 1, biases around 0, matrices with spread 0.2, embeddings 0.4."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator(case_name, name))
            if "norm" in name or ".ln_" in name:
                drawn = 1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise
            elif "embed" in name or "wte" in name or "wpe" in name:
                drawn = 0.4 * noise
            else:
                drawn = 0.2 * noise
            value.copy_(drawn.to(torch.bfloat16) if case_name.endswith("bf16") else drawn)


def records():
    """Three records of random tokens; a part of each is trained, the first token never, one stretch has a gap."""
    tokens, trained = [], []
    for index, length in enumerate(LENGTHS):
        tokens.append(torch.randint(0, VOCABULARY, (length,), generator=generator("tokens", index)))
        mask = torch.zeros(length, dtype=torch.bool)
        mask[(4, 1, 6)[index]:] = True
        trained.append(mask)
    trained[2][11:13] = False
    trained[0][-1] = False
    return tokens, trained
