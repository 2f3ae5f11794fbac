#!/usr/bin/env python3
"""`strata tokenizer train` against the BpeTrainer of the tokenizers library: the same tokenizer.json, byte for byte.

Tried on two hundred corpora of random text, of words of few letters (many ties and runs) and of lines of sentences.txt, with
random settings, and on every file of --corpora: text, or .jsonl of {"text"}. The folder is also loaded by transformers.
"""
import json
import pathlib
import random
import sys

import transformers

import harness
import tokenizer_oracle

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))
import tokenizer_train  # noqa: E402


def random_case(draw):
    """Documents and settings."""
    kind = draw.randrange(3)
    if kind == 0:
        documents = [tokenizer_oracle.random_text(draw, draw.randint(1, 400)) for _ in range(draw.randint(1, 20))]
    elif kind == 1:
        letters = "abcd"[:draw.randint(1, 4)]
        documents = ["".join(draw.choice(letters + " ") for _ in range(draw.randint(1, 500)))
                     for _ in range(draw.randint(1, 6))]
    else:
        pool = tokenizer_oracle.sentences()
        documents = [draw.choice(pool) for _ in range(draw.randint(1, 40))]
    documents = [d for d in documents if d] or ["a"]
    special = ["<|endoftext|>", "<s>", "ab", "<pad>"][:draw.randint(1, 4)]
    return documents, 256 + len(special) + draw.randint(0, 500), draw.choice([1, 1, 2, 3, 7]), special


def ours(strata, out, file, vocab_size, min_frequency, special):
    extra = [word for token in special[1:] for word in ("--special-token", token)]
    strata.run("tokenizer", "train", file, "--vocab-size", vocab_size, "--min-frequency", min_frequency, "--eos-token",
               special[0], *extra, "-o", out, "--force")
    return (out / "tokenizer.json").read_text()


def texts_of(path):
    if path.suffix != ".jsonl":
        return [path.read_bytes().decode()]
    return [json.loads(line)["text"] for line in path.read_text().split("\n") if line]


def compare(args, report, folder, what, file, documents, settings):
    with report.attempt(what):
        theirs = tokenizer_train.trained(documents, *settings).to_str(pretty=True)
        report.check(ours(args.strata, folder / "out", file, *settings) == theirs, what,
                     f"{len(json.loads(theirs)['model']['merges'])} merges")


def main():
    args = harness.arguments(__doc__, ("--corpora", "a folder of further texts (.txt, .jsonl), at any depth"))
    report = harness.Report()
    draw = random.Random(11)
    with harness.scratch() as temporary:
        folder = pathlib.Path(temporary)
        for number in range(200):
            documents, *settings = random_case(draw)
            file = folder / "corpus.jsonl"
            file.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
            compare(args, report, folder, f"random corpus {number}", file, documents, settings)
        for file in sorted(pathlib.Path(args.corpora).rglob("*.*")) if args.corpora else []:
            compare(args, report, folder, file.name, file, texts_of(file), (8192, 2, ["<|endoftext|>"]))
        with report.attempt("transformers"):
            loaded = transformers.AutoTokenizer.from_pretrained(folder / "out", local_files_only=True)
            text = "Loaded text,  as it was.\n"
            report.check(loaded.decode(loaded(text)["input_ids"]) == text, "transformers reads the folder")
            report.check(loaded.eos_token == loaded.bos_token == "<|endoftext|>", "transformers knows its ends")
    report.end()


if __name__ == "__main__":
    main()
