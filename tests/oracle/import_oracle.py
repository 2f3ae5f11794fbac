#!/usr/bin/env python3
"""`strata import MODEL.gguf -o DIR` against a Hugging Face folder made from the same file by an independent script.

Every tensor must have the same name, shape and values; texts the same ids; and transformers must load the folder.
"""
import json
import pathlib
import sys

import safetensors.torch
import tokenizers
import torch

import harness
from tokenizer_oracle import sentences

MEANINGFUL = ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "vocab_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings",
              "bos_token_id", "eos_token_id"]


def tensors(folder):
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        out.update(safetensors.torch.load_file(path))
    return out


def compare_tensors(report, got, want):
    report.check(set(got) == set(want), "tensor names", f"{len(got)} of {len(want)}; "
                 f"missing {sorted(set(want) - set(got))[:3]}, extra {sorted(set(got) - set(want))[:3]}")
    worst, where, exact = 0.0, "", 0
    for name in sorted(set(got) & set(want)):
        if got[name].shape != want[name].shape:
            report.check(False, f"shape of {name}", f"{tuple(got[name].shape)}, expected {tuple(want[name].shape)}")
            continue
        # The reference may hold a narrower type than strata writes: what counts is the value it would have there.
        difference = float((got[name].to(want[name].dtype).double() - want[name].double()).abs().max())
        exact += difference == 0.0
        if difference > worst:
            worst, where = difference, name
    report.check(worst == 0.0, "tensor values", f"{exact} exact, worst {worst:.1e} {where}")


def compare_config(report, got, want):
    for key in MEANINGFUL:
        if key in want:
            report.check(got.get(key) == want[key], f"config.json: {key}", f"{got.get(key)}, expected {want[key]}")

    def theta(config):
        return (config.get("rope_parameters") or config).get("rope_theta")
    report.check(theta(got) == theta(want), "config.json: rope_theta", f"{theta(got)}, expected {theta(want)}")


def compare_tokens(report, got, want):
    texts = sentences()
    one, two = (tokenizers.Tokenizer.from_file(str(f / "tokenizer.json")) for f in (got, want))
    for special in (False, True):
        unequal = [t for t in texts if one.encode(t, add_special_tokens=special).ids
                   != two.encode(t, add_special_tokens=special).ids]
        report.check(not unequal, f"ids of {len(texts)} texts, special={special}", repr(unequal[:1]))


def compare_template(report, got, want):
    import transformers
    chats = [[{"role": "user", "content": "Hi"}],
             [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
              {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "2+2?"}]]
    one, two = (transformers.AutoTokenizer.from_pretrained(f, local_files_only=True) for f in (got, want))
    for index, chat in enumerate(chats):
        texts = [t.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for t in (one, two)]
        report.check(texts[0] == texts[1], f"chat template, chat {index}", "" if texts[0] == texts[1] else repr(texts))


def main():
    args = harness.arguments(__doc__, ("--gguf", "the file to import"),
                             ("--reference", "the Hugging Face folder made from it by another program"))
    if not args.gguf or not args.reference:
        sys.exit("import_oracle.py: give --gguf FILE and --reference DIR")
    report = harness.Report()
    reference = pathlib.Path(args.reference)
    with harness.scratch() as temporary:
        folder = pathlib.Path(temporary) / "imported"
        with report.attempt("import"):
            args.strata.run("import", args.gguf, "-o", folder)
            compare_tensors(report, tensors(folder), tensors(reference))
            compare_config(report, *(json.loads((f / "config.json").read_text()) for f in (folder, reference)))
            compare_tokens(report, folder, reference)
        with report.attempt("chat template"):
            compare_template(report, folder, reference)
        with report.attempt("transformers loads it"):
            records = harness.random_records(reference, seed=4, count=2)
            with torch.no_grad():
                far = max(float((harness.logits(harness.load(folder), r) - harness.logits(harness.load(reference), r))
                                .abs().max()) for r in records)
            report.check(far < 1e-4, "logits", f"off by {far:.1e}")
    report.end()


if __name__ == "__main__":
    main()
