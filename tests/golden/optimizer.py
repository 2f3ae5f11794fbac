#!/usr/bin/env python3
"""Goldens of the optimizers and schedules: torch.optim and transformers on a handful of numbers.

Writes tests/golden/optimizer/optimizer.json: gradients, the parameters after every step, and learning-rate factors. Values
are float32, printed so that they read back exactly.
"""
import json
import pathlib

import torch
import transformers

OUT = pathlib.Path(__file__).resolve().parent / "optimizer"
STEPS = 6
SIZES = (5, 3)  # two parameters; the second has twice the learning rate and no weight decay


def run(make):
    """Parameters before and after each step; lr falls by a tenth of itself each step."""
    draw = torch.Generator().manual_seed(7)
    params = [torch.nn.Parameter(torch.randn(n, generator=draw)) for n in SIZES]
    groups = [{"params": [params[0]], "lr": 0.03}, {"params": [params[1]], "lr": 0.06, "weight_decay": 0.0}]
    optimizer = make(groups)
    values, grads = [[p.tolist() for p in params]], []
    for step in range(STEPS):
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw) * 10.0 ** (step - 3)
        grads.append([p.grad.tolist() for p in params])
        for group, rate in zip(optimizer.param_groups, (0.03, 0.06)):
            group["lr"] = rate * (1 - step / 10)
        optimizer.step()
        values.append([p.tolist() for p in params])
    return {"values": values, "grads": grads}


def clip(max_norm):
    draw = torch.Generator().manual_seed(9)
    params = [torch.nn.Parameter(torch.zeros(n)) for n in SIZES]
    for p in params:
        p.grad = torch.randn(p.shape, generator=draw)
    before = [p.grad.tolist() for p in params]
    norm = float(torch.nn.utils.clip_grad_norm_(params, max_norm))
    return {"max_norm": max_norm, "before": before, "norm": norm, "after": [p.grad.tolist() for p in params]}


def factors(name, steps, warmup):
    model = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(model, lr=1.0)
    makers = {
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, warmup, steps),
    }
    schedule = makers[name]().lr_lambdas[0]
    return {"method": name, "steps": steps, "warmup": warmup, "factors": [schedule(i) for i in range(steps + 2)]}


def main():
    golden = {
        "adamw": run(lambda g: torch.optim.AdamW(g, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)),
        "sgd": run(lambda g: torch.optim.SGD(g, momentum=0.9, weight_decay=0.1)),
        "plain_sgd": run(lambda g: torch.optim.SGD(g, weight_decay=0.1)),
        "clip": [clip(0.5), clip(1e3)],
        "schedules": [factors(name, steps, warmup) for name in ("constant", "linear", "cosine")
                      for steps, warmup in ((7, 0), (7, 3), (4, 4), (1, 0))],
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "optimizer.json").write_text(json.dumps(golden) + "\n")
    print(f"wrote {OUT / 'optimizer.json'}")


if __name__ == "__main__":
    main()
