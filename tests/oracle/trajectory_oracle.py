#!/usr/bin/env python3
"""Ten training steps of `strata run` against PEFT and torch's AdamW: the loss of every step, to 1e-4 relative.

One client, an adapter both sides start from (adapter.init), records in file order. Tried with all records in each
batch; with batches that wrap around the file; with a cosine schedule, warm-up, weight decay and clipping.

Adam's first steps are lr * sign(g), so values whose gradient is all rounding move at random: where that matters, two float
programs part ways whatever they do. From random adapters a model of SmolLM2's size falls from 15 to 1 in ten steps at the
rates that suit tiny models, and is such a case; it gets a tenth of them.
"""
import itertools
import json
import math
import pathlib

import torch
import transformers

import harness
import jobs

STEPS = 10
TOLERANCE = 1e-4
RECORDS = 6
CASES = {
    "whole batch": dict(batch_size=RECORDS, learning_rate=5e-3),
    "batches of 2": dict(batch_size=2, learning_rate=5e-3, weight_decay=0.01),
    "cosine, warm-up, clipping": dict(batch_size=RECORDS, learning_rate=1e-2, weight_decay=0.01, schedule="cosine",
                                      warmup_steps=2, max_grad_norm=0.5),
    "accumulation over 3 batches of 2": dict(batch_size=2, gradient_accumulation=3, learning_rate=5e-3),
}


def suited(folder, settings):
    wide = json.loads((folder / "config.json").read_text()).get("hidden_size", 0) > 256
    return {**settings, "learning_rate": settings["learning_rate"] * (0.1 if wide else 1.0)}


def batches(records, settings):
    """The records of each step. Order is the file's; the file starts again where an epoch ends."""
    size = settings["batch_size"] * settings.get("gradient_accumulation", 1)
    endless = itertools.cycle(records)
    return [list(itertools.islice(endless, size)) for _ in range(STEPS)]


def expected(folder, adapter, records, settings):
    model = harness.load_adapter(folder, adapter, trainable=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=settings.get("weight_decay", 0.0))
    schedule = None
    if settings.get("schedule") == "cosine":
        schedule = transformers.get_cosine_schedule_with_warmup(optimizer, settings["warmup_steps"], STEPS)
    losses = []
    for batch in batches(records, settings):
        optimizer.zero_grad()
        sums = [harness.loss_sum(model, r) for r in batch]
        loss = sum(s for s, _ in sums) / sum(n for _, n in sums)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.get("max_grad_norm") or math.inf)
        optimizer.step()
        if schedule:
            schedule.step()
        losses.append(float(loss.detach()))
    return losses


def main():
    args = harness.arguments(__doc__)
    report = harness.Report()
    for folder in harness.models(args):
        with harness.scratch() as temporary:
            work = pathlib.Path(temporary)
            records = harness.random_records(folder, seed=21, count=RECORDS, longest=40)
            data = harness.write_records(work / "train.jsonl", records)
            adapter = harness.random_adapter(folder, work / "adapter", 22, r=4, lora_alpha=6)
            for index, (name, case) in enumerate(CASES.items()):
                settings = suited(folder, case)
                with report.attempt(f"{folder.name}: {name}"):
                    description = jobs.job(folder, data, adapter={"method": "lora", "init": str(adapter)},
                                           training={"max_steps": STEPS, **settings})
                    out = jobs.run(args.strata, description, work, f"job{index}", args.threads)
                    want = expected(folder, adapter, records, settings)
                    report.close(jobs.step_losses(out), want, TOLERANCE,
                                 f"{folder.name}: {name}, {want[0]:.3f} -> {want[-1]:.3f}")
    report.end()


if __name__ == "__main__":
    main()
