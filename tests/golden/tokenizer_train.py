#!/usr/bin/env python3
"""What the BpeTrainer of the tokenizers library learns from small corpora.

Writes tests/golden/tokenizer_train/: cases.json, a list of {name, documents, vocab_size, min_frequency, special_tokens,
file, merges}; `file` names the whole tokenizer.json as the library saves it, where it is kept. The corpora: the
sentences of tests/oracle; words of two letters drawn at random, in which pairs are equally frequent, overlap and make
one token in several ways; special tokens that occur in the text or are the stand-in of a byte.
"""
import json
import pathlib
import random
import shutil
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "oracle"))
import tokenizer_oracle  # noqa: E402

OUT = HERE / "tokenizer_train"


def trained(documents, vocab_size, min_frequency, special_tokens):
    """The library's tokenizer, in the shape `strata tokenizer train` has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special_tokens, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def two_letters(seed, words, longest):
    """Words of a and b, and of nothing else: many ties, runs of one letter, tokens made in two ways."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choice("ab") for _ in range(draw.randint(1, longest))) for _ in range(words))


def cases():
    end = ["<|endoftext|>"]
    texts = tokenizer_oracle.sentences()
    yield "sentences", texts, 420, 2, end
    yield "often", texts * 3, 4000, 9, end + ["<|im_start|>", "<|im_end|>"]
    for seed in range(6):
        yield f"two_letters_{seed}", [two_letters(seed, 60, 12)], 256 + 140, 1, ["<s>"]
    yield "runs", ["a" * 23 + " " + "a" * 7 + " bb b bbb " + "ab" * 9 + "\n\n\n\n  \n\n"], 300, 0, end
    yield "special_in_text", ["<s><s> a<s>a é é é"] * 3, 290, 2, ["<s>", "é", "a"]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    rows = []
    for name, documents, vocab_size, min_frequency, special_tokens in cases():
        text = trained(documents, vocab_size, min_frequency, special_tokens).to_str(pretty=True)
        row = {"name": name, "documents": documents, "vocab_size": vocab_size, "min_frequency": min_frequency,
               "special_tokens": special_tokens, "merges": json.loads(text)["model"]["merges"]}
        if name in ("sentences", "special_in_text"):
            row["file"] = f"{name}.json"
            (OUT / row["file"]).write_text(text)
        rows.append(row)
    (OUT / "cases.json").write_text(json.dumps(rows, separators=(",", ":")))


if __name__ == "__main__":
    main()
