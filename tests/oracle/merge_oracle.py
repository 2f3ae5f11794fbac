#!/usr/bin/env python3
"""`strata merge A B --weights 0.2,0.8` against PEFT's add_weighted_adapter(combination_type="cat").

PEFT loads what strata wrote; its logits must be those of PEFT's own merge, and its matrices the float64 weighted sum.
Adapters differ in rank, alpha, scaling rule and, in the last case, in the layers they are on.
"""
import json
import math
import pathlib
import re

import safetensors.torch
import torch

import harness

WEIGHTS = (0.2, 0.8)
PAIRS = {
    "unequal ranks and alphas": (dict(r=8, lora_alpha=12), dict(r=3, lora_alpha=1)),
    "rsLoRA and a rank pattern": (dict(r=5, lora_alpha=7, use_rslora=True),
                                  dict(r=4, lora_alpha=6, rank_pattern={"PATTERN": 2}, alpha_pattern={"PATTERN": 9})),
}


def layer_kinds(model_type):
    return ("c_attn", "c_fc") if model_type == "gpt2" else ("q_proj", "up_proj")


def pattern_value(pattern, key, default):
    """PEFT's rule: the first pattern that matches the end of the module's name."""
    for name, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({name})$", key):
            return value
    return default


def dense(adapter):
    """Module -> scale * B A in float64, from the files alone."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    out = {}
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        b = tensors[name.replace("lora_A", "lora_B")]
        rank = pattern_value(config.get("rank_pattern"), module, config["r"])
        alpha = pattern_value(config.get("alpha_pattern"), module, config["lora_alpha"])
        scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
        assert a.shape[0] == rank, f"{adapter}: {name} has rank {a.shape[0]}, the configuration says {rank}"
        out[module] = scale * (b.double() @ a.double())
    return out


def merge_with_peft(folder, first, second):
    """PEFT 0.21 keeps use_rslora and the patterns of the first adapter for its merge and so scales that once more; such
    pairs are compared with the dense sum alone."""
    model = harness.load_adapter(folder, first)
    model.load_adapter(second, adapter_name="second")
    model.add_weighted_adapter(["default", "second"], list(WEIGHTS), "merged", combination_type="cat")
    model.set_adapter("merged")
    return model.eval()


def compare(args, report, folder, work, what, first, second, by_peft=True):
    out = work / "merged"
    args.strata.run("merge", first, second, "--weights", ",".join(map(str, WEIGHTS)), "-o", out, "--force")
    got, parts = dense(out), [dense(first), dense(second)]
    worst = 0.0
    for module in sorted(set().union(*parts)):
        want = sum(w * p[module] for w, p in zip(WEIGHTS, parts) if module in p)
        if module not in got:
            report.check(False, what, f"{module} is missing in the merge")
            return
        worst = max(worst, float((got[module] - want).norm() / want.norm()))
    report.check(worst < 1e-6, f"{what}: dense sum", f"relative {worst:.1e}")
    report.check(set(got) == set().union(*parts), f"{what}: layers", f"{len(got)}")
    merged = harness.load_adapter(folder, out)
    if not by_peft:
        return
    records = harness.random_records(folder, seed=3, count=3)
    oracle = merge_with_peft(folder, first, second)
    with torch.no_grad():
        far = max(float((harness.logits(merged, r) - harness.logits(oracle, r)).abs().max()) for r in records)
    report.check(far < 2e-4, f"{what}: logits of PEFT's cat", f"off by {far:.1e}")


def main():
    args = harness.arguments(__doc__)
    report = harness.Report()
    for folder in harness.models(args):
        attention, feed_forward = layer_kinds(json.loads((folder / "config.json").read_text())["model_type"])
        with harness.scratch() as temporary:
            work = pathlib.Path(temporary)
            for index, (name, settings) in enumerate(PAIRS.items()):
                pair = [json.loads(json.dumps(s).replace("PATTERN", attention)) for s in settings]
                adapters = [harness.random_adapter(folder, work / f"{index}{i}", 5 + i, **s) for i, s in enumerate(pair)]
                with report.attempt(f"{folder.name}: {name}"):
                    compare(args, report, folder, work, f"{folder.name}: {name}", *adapters,
                            by_peft="PATTERN" not in json.dumps(settings))
            partial = [harness.random_adapter(folder, work / f"p{i}", 9 + i, r=3 + i, target_modules=[kind])
                       for i, kind in enumerate((attention, feed_forward))]
            with report.attempt(f"{folder.name}: unequal layers"):
                compare(args, report, folder, work, f"{folder.name}: unequal layers", *partial)
    report.end()


if __name__ == "__main__":
    main()
