#!/usr/bin/env python3
"""`strata eval` against transformers and PEFT: the loss of every record and of the whole file, to 1e-5 relative.

Records of token ids with masked labels on every model, with and without an adapter; plain texts where the model has a
tokenizer.
"""
import math
import pathlib

import torch

import harness

TOLERANCE = 1e-5
TEXTS = ["Once upon a time, there was a little girl named Lily.",
         "The old lighthouse keeper counted 17 ships — none of them were his.",
         "Ein kurzer Satz, ein paar Umlaute: äöüß. Et une phrase française.",
         "def add(a, b):\n    return a + b\n"]


def expected(model, records):
    """Mean loss over trained tokens, count of them, and each record's own mean."""
    with torch.no_grad():
        sums = [harness.loss_sum(model, r) for r in records]
    count = sum(n for _, n in sums)
    return float(sum(s for s, _ in sums)) / count, count, [float(s) / n for s, n in sums]


def compare(report, what, got, want):
    loss, count, each = want
    report.close(got["loss"], loss, TOLERANCE, f"{what}: loss")
    report.close(got["perplexity"], math.exp(loss), 2e-5 * max(1.0, loss), f"{what}: perplexity")
    report.check(got["trained_tokens"] == count, f"{what}: trained tokens", f"{got['trained_tokens']} of {count}")
    report.close([r["loss"] for r in got["records"]], each, TOLERANCE, f"{what}: {len(each)} records")


def token_records(args, report, folder, work):
    name = folder.name
    records = harness.random_records(folder, seed=1)
    data = harness.write_records(work / "records.jsonl", records)
    command = ["eval", "--model", folder, "--data", data, "--per-record", "--threads", args.threads]
    with report.attempt(f"{name}: base"):
        compare(report, f"{name}: base", args.strata.data(*command), expected(harness.load(folder), records))
    adapters = [("lora", {}), ("rslora", dict(r=3, lora_alpha=5, use_rslora=True))]
    for which, settings in adapters:
        adapter = harness.random_adapter(folder, work / which, 2, **settings)
        with report.attempt(f"{name}: {which}"):
            compare(report, f"{name}: {which}", args.strata.data(*command, "--adapter", adapter),
                    expected(harness.load_adapter(folder, adapter), records))


def text_records(args, report, folder, work):
    """A text is trained on whole. Whether an end token is added is strata's choice: one of both must match."""
    import json

    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = json.loads((folder / "config.json").read_text()).get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    data = work / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    model = harness.load(folder)
    with report.attempt(f"{folder.name}: texts"):
        got = args.strata.data("eval", "--model", folder, "--data", data, "--per-record", "--threads", args.threads)
        plain = [tokenizer.encode(t).ids for t in TEXTS]
        closed = [ids if ids[-1] == end else [*ids, end] for ids in plain]
        wants = {}
        for how, all_ids in (("plain", plain), ("with end token", closed)):
            records = [harness.Record(ids, [False] + [True] * (len(ids) - 1)) for ids in all_ids]
            wants[how] = expected(model, records)
        how = min(wants, key=lambda h: abs(wants[h][0] - got["loss"]))
        compare(report, f"{folder.name}: texts {how}", got, wants[how])


def main():
    args = harness.arguments(__doc__)
    report = harness.Report()
    for folder in harness.models(args):
        with harness.scratch() as temporary:
            work = pathlib.Path(temporary)
            token_records(args, report, folder, work)
            if (folder / "tokenizer.json").exists():
                text_records(args, report, folder, work)
    report.end()


if __name__ == "__main__":
    main()
