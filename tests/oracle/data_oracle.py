#!/usr/bin/env python3
"""`strata data preview` against transformers: ids and labels of chat, pair and text records, exactly.

A chat answer and the end of its turn are trained; where they begin is where the generation prompt ends. Where that is inside
a token of the whole text, as before an answer that begins with spaces, strata tokenizes the parts apart and counts the
record: there the count is compared. The questions and answers are the lines of sentences.txt.
"""
import json
import pathlib

import transformers

import harness
from tokenizer_oracle import sentences

MESSAGES = 40


def dialogues():
    words = [s for s in sentences() if s.strip()]
    for i in range(MESSAGES):
        turns = [{"role": ("user", "assistant")[j % 2], "content": words[(i * 7 + j) % len(words)]} for j in range(2 + 2 * (i % 2))]
        yield [{"role": "system", "content": words[i]}] + turns if i % 3 == 0 else turns


def chat_labels(tokenizer, messages):
    """Ids of the dialogue; labels at each answer up to and with the token that ends its turn. None: see above."""
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False).input_ids
    labels = [harness.IGNORED] * len(ids)
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
        prefix = tokenizer(before, add_special_tokens=False).input_ids
        begin = len(prefix)
        if ids[:begin] != prefix:
            return None
        end = ids.index(tokenizer.eos_token_id, begin) + 1
        labels[begin:end] = ids[begin:end]
    return ids, labels


def closed(tokenizer, text):
    ids = tokenizer(text).input_ids
    return ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]


def compare(args, report, what, folder, records, wanted, *flags):
    with report.attempt(what), harness.scratch() as temporary:
        data = pathlib.Path(temporary) / "records.jsonl"
        data.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
        got = args.strata.data("data", "preview", "--model", folder, "--data", data, "-n", len(records),
                               "--max-length", 100000, *flags)
        pairs = [(r["input_ids"], r["labels"]) for r in got["records"]]
        unequal = [i for i, (g, w) in enumerate(zip(pairs, wanted)) if w is not None and tuple(g) != tuple(w)]
        first = f"record {unequal[0]}: {pairs[unequal[0]]} for {wanted[unequal[0]]}"[:500] if unequal else ""
        report.check(len(pairs) == len(wanted) and not unequal, f"{what}: {len(wanted)} records", first)
        apart = sum(w is None for w in wanted)
        counted = got["report"]["tokenized_apart"]
        report.check(counted == apart, f"{what}: {apart} tokenized apart", f"strata counts {counted}")


def main():
    args = harness.arguments(__doc__)
    report = harness.Report()
    for folder in harness.models(args, tokenizer=True):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        texts = [s for s in sentences() if s.strip()]
        wanted = [(ids, [harness.IGNORED, *ids[1:]]) for ids in (closed(tokenizer, t) for t in texts)]
        compare(args, report, f"{folder.name}: texts", folder, [{"text": t} for t in texts], wanted)
        if not tokenizer.chat_template:
            report.skip(f"{folder.name}: dialogues", "the model has no chat template")
            continue
        talks = list(dialogues())
        wanted = [chat_labels(tokenizer, messages) for messages in talks]
        compare(args, report, f"{folder.name}: dialogues", folder, [{"messages": m} for m in talks], wanted)
        pairs = [{"prompt": a, "completion": b} for a, b in zip(texts, texts[1:])]
        wanted = [chat_labels(tokenizer, [{"role": "user", "content": p["prompt"]},
                                          {"role": "assistant", "content": p["completion"]}]) for p in pairs]
        compare(args, report, f"{folder.name}: pairs", folder, pairs, wanted)
    report.end()


if __name__ == "__main__":
    main()
