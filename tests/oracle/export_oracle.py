#!/usr/bin/env python3
"""What a run and `strata export` leave, as transformers and PEFT read it.

A short federation of two clients of unequal rank; PEFT must load the adapter of every round and give, on the base model,
the logits that transformers gives for the exported merged checkpoint; and strata's own loss must be theirs.
"""
import pathlib

import peft
import torch

import harness
import jobs


def federation(folder, work):
    """Two clients with their own data, ranks and layers; two rounds of three steps."""
    data = [harness.write_records(work / f"client{i}.jsonl", harness.random_records(folder, 31 + i, count=4))
            for i in range(2)]
    description = jobs.job(folder, data[0], adapter={"method": "lora", "rank": 4, "alpha": 8, "targets": ["all-linear"]},
                           training={"max_steps": 3, "batch_size": 2, "learning_rate": 1e-2}, rounds=2)
    description["clients"] = [{"name": "a", "data": str(data[0])},
                              {"name": "b", "data": str(data[1]), "adapter": {"rank": 2, "alpha": 2}}]
    return description


def furthest(one, two, records):
    with torch.no_grad():
        return max(float((harness.logits(one, r) - harness.logits(two, r)).abs().max()) for r in records)


def largest(model, records):
    with torch.no_grad():
        return max(float(harness.logits(model, r).abs().max()) for r in records)


def mean_loss(model, records):
    with torch.no_grad():
        sums = [harness.loss_sum(model, r) for r in records]
    return float(sum(s for s, _ in sums)) / sum(n for _, n in sums)


def stacked(folder, adapters):
    """The base with every round's update added: rounds follow each other, so their updates add up."""
    model = harness.load(folder)
    for adapter in adapters:
        model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


def compare(args, report, folder, work):
    name = folder.name
    records = harness.random_records(folder, seed=35, count=4)
    data = harness.write_records(work / "held_out.jsonl", records)
    out = jobs.run(args.strata, federation(folder, work), work, "job", args.threads)
    adapters = jobs.adapter_folders(out)
    report.check(len(adapters) >= 2, f"{name}: an adapter for each round", f"{len(adapters)}")
    base = harness.load(folder)
    for index, adapter in enumerate(adapters):
        far = furthest(harness.load_adapter(folder, adapter), base, records)
        report.check(far > 1e-4, f"{name}: PEFT loads round {index + 1} and it moves the logits", f"by {far:.1e}")
        exported = work / f"merged{index}"
        args.strata.run("export", "--model", folder, "--adapter", adapter, "-o", exported)
        merged = harness.load(exported)
        far = furthest(harness.load_adapter(folder, adapter), merged, records)
        # Two float sums of another order: 2e-4 for logits of usual size, more where training blew them up.
        allowed = 2e-4 * max(1.0, largest(merged, records) / 20)
        report.check(far < allowed, f"{name}: merged checkpoint of round {index + 1}: logits",
                     f"off by {far:.1e}, allowed {allowed:.1e}")
        loss = args.strata.data("eval", "--model", exported, "--data", data, "--threads", args.threads)["loss"]
        report.close(loss, mean_loss(merged, records), 1e-5, f"{name}: strata's loss of the merged checkpoint")
        loss = args.strata.data("eval", "--model", folder, "--adapter", adapter, "--data", data,
                                "--threads", args.threads)["loss"]
        report.close(loss, mean_loss(harness.load_adapter(folder, adapter), records), 1e-5,
                     f"{name}: strata's loss with the adapter")
    final = jobs.final_model(out)
    if final is None:
        report.skip(f"{name}: final model", "the run left none")
    else:
        far = furthest(stacked(folder, adapters), harness.load(final), records)
        report.check(far < 5e-4, f"{name}: final model is the base with all rounds", f"off by {far:.1e}")


def main():
    args = harness.arguments(__doc__)
    report = harness.Report()
    for folder in harness.models(args):
        with harness.scratch() as temporary, report.attempt(folder.name):
            compare(args, report, folder, pathlib.Path(temporary))
    report.end()


if __name__ == "__main__":
    main()
