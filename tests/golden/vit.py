#!/usr/bin/env python3
"""Goldens of vision transformers: a tiny ViTForImageClassification as transformers and PEFT see it.

Writes tests/golden/vit/: a Hugging Face folder (config.json, model.safetensors) and expected.safetensors: `pixels` (images x
channels x height x width, bytes), `labels`, and, computed in float64, `logits`, `loss`, `full.grad.*` by the checkpoint's names,
and of LoRA adapters of rank 3 and alpha 6 on every linear layer
of the encoder `lora.a.*`, `lora.b.*`, `lora.logits` and `lora.grad.*`.
"""
import json
import pathlib
import re
import shutil

import numpy
import peft
import safetensors.numpy
import torch
import transformers
from torch.nn import functional

import model
import model_cases

OUT = pathlib.Path(__file__).resolve().parent / "vit"
IMAGES, CLASSES = 4, 5
# What transformers 5 calls a module, and what checkpoints do.
CHECKPOINT_NAMES = [(r"vit\.layers\.", "vit.encoder.layer."), (r"attention\.q_proj", "attention.attention.query"),
         (r"attention\.k_proj", "attention.attention.key"), (r"attention\.v_proj", "attention.attention.value"),
         (r"attention\.o_proj", "attention.output.dense"), (r"mlp\.fc1", "intermediate.dense"),
         (r"mlp\.fc2", "output.dense")]


def stored(name):
    for called, stored_as in CHECKPOINT_NAMES:
        name = re.sub(called, stored_as, name)
    return name


def base():
    torch.manual_seed(0)
    made = transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, image_size=12, patch_size=4,
        num_channels=3, num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    with torch.no_grad():
        for name, value in made.named_parameters():
            noise = torch.randn(value.shape, generator=model_cases.generator("vit", stored(name)))
            gain = "layernorm" in name and name.endswith("weight")
            value.copy_(1 + 0.2 * noise if gain else 0.2 * noise)
    return made


def load(dtype):
    return transformers.ViTForImageClassification.from_pretrained(
        OUT, dtype=dtype, attn_implementation="eager", local_files_only=True).eval()


def main():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    base().save_pretrained(OUT)
    (OUT / "model.safetensors").chmod(0o644)
    config = json.loads((OUT / "config.json").read_text())
    config.pop("transformers_version")
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    draws = model_cases.generator("vit", "pixels")
    pixels = torch.randint(0, 256, (IMAGES, 3, 12, 12), generator=draws, dtype=torch.uint8)
    labels = torch.tensor([3, 0, 4, 1])
    out = {"labels": labels.numpy().astype(numpy.int32), "pixels": pixels.numpy()}
    with model.float64_throughout():
        values = (pixels.double() / 255 - 0.5) / 0.5
        net = load(torch.float64)

        def mean_loss(of):
            return functional.cross_entropy(of(pixel_values=values).logits, labels)

        with torch.no_grad():
            out["logits"] = model.rounded(net(pixel_values=values).logits)
        loss = mean_loss(net)
        out["loss"] = model.rounded(numpy.array([float(loss.detach())]))
        loss.backward()
        for name, value in net.named_parameters():
            out[f"full.grad.{stored(name)}"] = model.rounded(value.grad.flatten())
        adapted = peft.get_peft_model(load(torch.float64), peft.LoraConfig(
            r=3, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]),
            autocast_adapter_dtype=False)
        factors = {}
        for name, value in adapted.named_parameters():
            if "lora_" not in name:
                continue
            module, which = re.fullmatch(r"base_model\.model\.(.*)\.lora_([AB])\.default\.weight", name).groups()
            key = f"{stored(module)}.lora_{which}"
            with torch.no_grad():
                value.copy_(0.15 * torch.randn(value.shape, generator=model_cases.generator("vit", key)))
            factors[key] = value
            out[f"lora.{which.lower()}.{stored(module)}"] = model.rounded(value)
        with torch.no_grad():
            out["lora.logits"] = model.rounded(adapted(pixel_values=values).logits)
        mean_loss(adapted).backward()
        for key, value in factors.items():
            out[f"lora.grad.{key}"] = model.rounded(value.grad)
    metadata = dict(made_by="tests/golden/vit.py", attention="eager", computed_in="float64")
    (OUT / "expected.safetensors").write_bytes(model.ordered(safetensors.numpy.save(out), metadata))


if __name__ == "__main__":
    main()
