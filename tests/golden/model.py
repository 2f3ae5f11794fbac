#!/usr/bin/env python3
"""Goldens of the model engine: tiny models of every supported family, as Hugging Face transformers and PEFT see them.

For each case of model_cases.py this writes tests/golden/model/<name>/: a Hugging Face folder (config.json,
model.safetensors), two PEFT adapters (adapter/, adapter_patterns/) and expected.safetensors; README.md lists what that
holds. The libraries run in float64, also where they cast to float32 inside, so that what is stored is the float32
nearest to the true value; the distance to the libraries' own float32 run is printed.
"""
import contextlib
import json
import math
import pathlib
import shutil

import numpy
import peft
import safetensors.numpy
import safetensors.torch
import torch
import transformers
from peft.optimizers import create_loraplus_optimizer
from torch.nn import functional

import model_cases

OUT = pathlib.Path(__file__).resolve().parent / "model"
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
STEPS = 10


@contextlib.contextmanager
def float64_throughout():
    """Inside, the libraries' casts to float32 give float64: norms, softmax and rope are otherwise rounded there."""
    kept = torch.Tensor.to, torch.Tensor.float, functional.softmax, torch.get_default_dtype()

    def to(tensor, *args, **kwargs):
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return kept[0](tensor, *args, **kwargs)

    torch.Tensor.to = to
    torch.Tensor.float = lambda tensor: tensor.double()
    functional.softmax = lambda x, dim=None, dtype=None: kept[2](x, dim=dim, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.Tensor.to, torch.Tensor.float, functional.softmax = kept[:3]
        torch.set_default_dtype(kept[3])


def save_base(case, folder):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(case.config, attn_implementation="eager")
    model_cases.randomise(case.name, model)
    if case.bf16_shards:
        model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="14KB")
        assert len(list(folder.glob("model-*.safetensors"))) == 2, "the case wants exactly two shards"
    else:
        model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version")  # versions.json has it
    if case.old_style_config:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
        config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if case.bare_copy:
        bare = OUT / (case.name + "_bare")
        bare.mkdir(parents=True)
        (bare / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
        for layer in range(config["n_layer"]):  # the hub's gpt2 carries its causal mask along
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
        safetensors.torch.save_file(tensors, bare / "model.safetensors", metadata={"format": "pt"})


def load(folder, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", local_files_only=True).eval()


def save_adapter(case, folder, into, **settings):
    """An adapter with both factors drawn at random, as PEFT's save_pretrained writes it."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, fan_in_fan_out=case.name == "gpt2", **settings)
    model = peft.get_peft_model(load(folder, torch.float32), config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(0.15 * torch.randn(value.shape, generator=model_cases.generator(case.name, into, name)))
    model.save_pretrained(folder / into)
    (folder / into / "README.md").unlink(missing_ok=True)
    # The list comes from a set and the path from this machine: give both a fixed value.
    path = folder / into / "adapter_config.json"
    written = json.loads(path.read_text())
    written["target_modules"] = sorted(written["target_modules"])
    written["base_model_name_or_path"] = case.name
    written.pop("peft_version")  # versions.json has it
    path.write_text(json.dumps(written, indent=2) + "\n")


def with_adapter(folder, which, dtype):
    model = peft.PeftModel.from_pretrained(load(folder, dtype), folder / which, is_trainable=True,
                                           autocast_adapter_dtype=False)
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = value.data.to(dtype)
    return model.eval()


def logits_of(model, data):
    return [model(input_ids=tokens[None]).logits[0] for tokens in data[0]]


def record_losses(model, data):
    """Per record the sum over trained tokens of -log p(token | tokens before it)."""
    sums = []
    for logits, tokens, trained in zip(logits_of(model, data), *data):
        each = functional.cross_entropy(logits[:-1], tokens[1:], reduction="none")
        sums.append((each * trained[1:]).sum())
    return sums


def mean_loss(model, data):
    return sum(record_losses(model, data)) / sum(int(trained[1:].sum()) for trained in data[1])


def plain_name(name):
    """base_model.model.model.layers.0.x.lora_A.default.weight -> model.layers.0.x.lora_A"""
    if "lora_" in name:
        name = name.removeprefix("base_model.model.").replace(".default.weight", "")
    return name


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {plain_name(n): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def train(model, data, optimizer, steps=STEPS, schedule=None, max_grad_norm=None):
    """The loss before each step, and the gradient norm before clipping."""
    losses, norms = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mean_loss(model, data)
        loss.backward()
        trained = [p for p in model.parameters() if p.grad is not None]
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, max_grad_norm or math.inf)))
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(float(loss.detach()))
    return numpy.array(losses), numpy.array(norms)


def trainable(model, only=""):
    for name, value in model.named_parameters():
        value.requires_grad_(value.requires_grad and only in name)
    return [p for p in model.parameters() if p.requires_grad]


def expect_adapter(case, folder, which, prefix, data, out):
    model = with_adapter(folder, which, torch.float64)
    with torch.no_grad():
        out[f"{prefix}.logits"] = torch.cat(logits_of(model, data))
    loss = mean_loss(model, data)
    out[f"{prefix}.loss"] = numpy.array([float(loss.detach())])
    for name, value in gradients(model, loss).items():
        out[f"{prefix}.grad.{name}"] = value
    if prefix == "lora" and case.records:
        for index, loss in enumerate(record_losses(model, data)):
            for name, value in gradients(model, loss).items():
                out[f"lora.record.{index}.grad.{name}"] = value
            out[f"lora.record.{index}.loss_sum"] = numpy.array([float(loss.detach())])


def expect_training(case, folder, data, out):
    def fresh():
        return with_adapter(folder, "adapter", torch.float64)

    model = fresh()
    out["lora.adamw.losses"], _ = train(model, data, torch.optim.AdamW(trainable(model), **ADAMW))
    if case.extras:
        for name, value in model.named_parameters():
            if "lora_" in name:
                out[f"lora.adamw.final.{plain_name(name)}"] = value.detach()

    model = fresh()
    optimizer = torch.optim.AdamW(trainable(model), **ADAMW)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=STEPS)
    out["lora.cosine.losses"], out["lora.cosine.norms"] = train(model, data, optimizer, schedule=schedule,
                                                                max_grad_norm=0.5)
    if not case.extras:
        return
    model = fresh()
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0,
                                          loraplus_weight_decay=0.01, betas=ADAMW["betas"], eps=ADAMW["eps"])
    out["lora.loraplus.losses"], _ = train(model, data, optimizer, steps=3)
    model = fresh()
    out["lora.ffa.losses"], _ = train(model, data, torch.optim.AdamW(trainable(model, "lora_B"), **ADAMW), steps=3)
    model = fresh()
    out["lora.sgd.losses"], _ = train(model, data, torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9), steps=5)


def expect_full(case, folder, data, out):
    if not case.full:
        return
    model = load(folder, torch.float64)
    for name, value in gradients(model, mean_loss(model, data)).items():
        out[f"full.grad.{name}"] = value
    out["full.adamw.losses"], _ = train(model, data, torch.optim.AdamW(model.parameters(), **ADAMW), steps=5)
    model = load(folder, torch.float64)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [dict(params=matrices), dict(params=vectors, weight_decay=0.0)]
    out["full.adamw_matrices.losses"], _ = train(model, data, torch.optim.AdamW(groups, **ADAMW), steps=5)


def expectations(case, folder, data):
    out = {}
    model = load(folder, torch.float64)
    with torch.no_grad():
        out["logits"] = torch.cat(logits_of(model, data))
        out["loss"] = numpy.array([float(mean_loss(model, data))])
    expect_adapter(case, folder, "adapter", "lora", data, out)
    expect_adapter(case, folder, "adapter_patterns", "patterns", data, out)
    expect_training(case, folder, data, out)
    expect_full(case, folder, data, out)
    return out


def float32_distance(case, folder, data, out):
    """How far the libraries' own float32 is: the floor of any tolerance."""
    with torch.no_grad():
        logits = torch.cat(logits_of(load(folder, torch.float32), data))
    model = with_adapter(folder, "adapter", torch.float32)
    losses, _ = train(model, data, torch.optim.AdamW(trainable(model), **ADAMW))
    return (float((logits - out["logits"]).abs().max()),
            float(numpy.abs(losses / out["lora.adamw.losses"] - 1).max()))


def rounded(value):
    """Series in double to twelve digits, tensors as float32 without what is only the rounding of a zero: the last bits of a
    float64 run differ between processors, and the files shall not."""
    if isinstance(value, numpy.ndarray):
        return numpy.array([float(f"{number:.12g}") for number in value])
    value = value.detach().double().numpy()
    return numpy.where(numpy.abs(value) < 1e-13 * numpy.abs(value).max(), 0.0, value).astype(numpy.float32)


def write(case, folder, data, out):
    """Tensors as float32, single numbers as float64, inputs as integers."""
    lengths = [len(tokens) for tokens in data[0]]
    arrays = {
        "tokens": torch.cat(data[0]).numpy().astype(numpy.int32),
        "trained": torch.cat(data[1]).numpy().astype(numpy.uint8),
        "offsets": numpy.cumsum([0, *lengths]).astype(numpy.int32),
    }
    for name, value in out.items():
        arrays[name] = rounded(value)
    metadata = dict(
        made_by="tests/golden/model.py", model=case.name, attention="eager", computed_in="float64",
        adamw=json.dumps(ADAMW), cosine="warm-up 2 of 10 steps, max_grad_norm 0.5",
        loraplus="lr 1e-3, ratio 16, weight_decay 0.01", sgd="lr 0.1, momentum 0.9")
    # One key order: the writer of the library keeps metadata in the order of a hash table.
    (folder / "expected.safetensors").write_bytes(ordered(safetensors.numpy.save(arrays), metadata))


def ordered(data, metadata):
    """The same safetensors bytes with sorted metadata in the header, padded to 8 bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header = {"__metadata__": dict(sorted(metadata.items())), **dict(sorted(header.items()))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size:]


def main():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    data = model_cases.records()
    for case in model_cases.cases():
        folder = OUT / case.name
        folder.mkdir(parents=True)
        save_base(case, folder)
        save_adapter(case, folder, "adapter", r=4, lora_alpha=6, target_modules="all-linear")
        save_adapter(case, folder, "adapter_patterns", r=3, lora_alpha=5, use_rslora=True,
                     target_modules=case.targets, rank_pattern=case.rank_pattern, alpha_pattern=case.alpha_pattern)
        with float64_throughout():
            out = expectations(case, folder, data)
        far, far_loss = float32_distance(case, folder, data, out)
        write(case, folder, data, out)
        losses = out["lora.adamw.losses"]
        print(f"{case.name:12} logits to {float(out['logits'].abs().max()):.2f}, float32 off by {far:.1e}; "
              f"loss {out['loss'][0]:.4f}; ten steps {losses[0]:.4f} -> {losses[-1]:.4f}, float32 off by {far_loss:.1e}")


if __name__ == "__main__":
    main()
