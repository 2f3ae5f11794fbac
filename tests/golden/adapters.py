#!/usr/bin/env python3
"""Goldens of reading and merging adapters: what PEFT makes of two small ones on the golden llama.

Writes tests/golden/adapters/: `one` and `two` (unequal rank, alpha, scaling rule and layers) as PEFT saves them, and
expected.safetensors with, in float64, `one.<module>`, `two.<module>` (scale B A), `patterns.<module>` (the golden model's
adapter_patterns) and `cat.<module>` (add_weighted_adapter of one and two with 0.2 and 0.8, combination_type "cat").
"""
import json
import pathlib
import shutil

import peft
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model" / "llama"
OUT = HERE / "adapters"
WEIGHTS = [0.2, 0.8]
CONFIGS = {
    "one": peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj"]),
    "two": peft.LoraConfig(r=2, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "gate_proj"]),
}


def base():
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)


def make(name, config, seed):
    model = peft.get_peft_model(base(), config)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn(value.shape, generator=draw))
    model.peft_config["default"].base_model_name_or_path = "golden/llama"
    model.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink(missing_ok=True)
    path = OUT / name / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["target_modules"].sort()  # PEFT keeps a set, whose order changes from run to run
    settings.pop("peft_version")  # versions.json has it
    path.write_text(json.dumps(settings, indent=2) + "\n")


def deltas(model, adapter):
    """Module -> scale B A of one adapter, by PEFT, in float64."""
    out = {}
    for key, module in model.double().named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer) and adapter in module.lora_A:
            out[key.removeprefix("base_model.model.")] = module.get_delta_weight(adapter).detach().contiguous()
    return out


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for seed, (name, config) in enumerate(CONFIGS.items()):
        make(name, config, seed + 21)
    model = peft.PeftModel.from_pretrained(base(), OUT / "one", adapter_name="one")
    model.load_adapter(OUT / "two", adapter_name="two")
    model.load_adapter(MODEL / "adapter_patterns", adapter_name="patterns")
    model.double().add_weighted_adapter(["one", "two"], WEIGHTS, "cat", combination_type="cat")
    expected = {f"{name}.{module}": value for name in ("one", "two", "patterns", "cat")
                for module, value in deltas(model, name).items()}
    safetensors.torch.save_file(expected, OUT / "expected.safetensors")
    print(f"wrote {len(expected)} matrices to {OUT}")


if __name__ == "__main__":
    main()
