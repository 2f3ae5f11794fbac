#!/usr/bin/env python3
"""`strata tokenize` against the tokenizers library: ids and decoded text of hundreds of strings, exactly.

Tried on the tokenizer of every model given, on every file of --tokenizers, and on small ones trained here in the
shapes of GPT-2, Llama 3, Qwen 2, SmolLM2 and SentencePiece with byte fallback. Strings: sentences.txt (32 scripts and
the corners of the pre-tokenizers), pairs and pieces of them, random Unicode, added tokens inside text.
"""
import json
import pathlib
import random
import shutil
import unicodedata

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import harness

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def sentences():
    """The lines of sentences.txt with \\n, \\t, \\\\ and \\uXXXX read as escapes, and the empty string."""
    lines = (pathlib.Path(__file__).parent / "sentences.txt").read_text().split("\n")[:-1]
    return [json.loads('"' + line.replace('"', '\\"') + '"') for line in lines] + [""]


def random_text(draw, length):
    """Characters of every kind, mostly from few blocks so that words and merges appear."""
    blocks = [(0x20, 0x7e)] * 6 + [(0x09, 0x0d), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x52f), (0x5d0, 0x6ff),
                                   (0x900, 0xdff), (0x2000, 0x206f), (0x2070, 0x23ff), (0x3000, 0x30ff),
                                   (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0x10000, 0x10fff)]
    out = []
    while len(out) < length:
        low, high = draw.choice(blocks)
        for _ in range(draw.randint(1, 4)):
            character = chr(draw.randint(low, high))
            if unicodedata.category(character) not in ("Cs", "Cn"):
                out.append(character)
        if draw.random() < 0.2:
            out.append(draw.choice([" ", "  ", "\n", "\n\n", "\t", "'s", "'LL", "12345", " \n ", "\r\n"]))
    return "".join(out)


def strings(added, seed=7):
    draw = random.Random(seed)
    plain = sentences()
    out = list(plain)
    for _ in range(150):  # pieces glued at any character
        a, b = draw.choice(plain), draw.choice(plain)
        out.append(a[draw.randrange(len(a) + 1):] + b[:draw.randrange(len(b) + 1)])
    out += [random_text(draw, draw.randint(1, 40)) for _ in range(300)]
    out += [" " * n + "x" + " " * m for n in range(4) for m in range(4)] + ["\n" * n for n in range(1, 6)]
    for token in added[:40]:
        out += [token, f"a{token}b", f" {token} {token}{token}\n", f"{token[:-1]}", f"before {token.upper()} after"]
    return out


def trained_like(shape, corpus):
    """A small tokenizer of the pipeline of a known model, trained on `corpus`."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    if shape == "sentencepiece":
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                               decoders.Strip(" ", 1, 0)])
        specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=900, special_tokens=specials,
                                                                  show_progress=False))
        data = json.loads(tokenizer.to_str())  # bytes are ordinary tokens in these files, not added ones
        data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data))
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                                 special_tokens=[("<s>", 1)])
        return tokenizer
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=shape == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=shape in ("gpt2", "smollm2"))
    first = {"gpt2": [], "smollm2": [pre_tokenizers.Digits(individual_digits=True)],
             "llama3": [pre_tokenizers.Split(tokenizers.Regex(LLAMA3), "isolated")],
             "qwen2": [pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated")]}[shape]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, byte_level]) if first else byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if shape == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=specials, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus, trainer)
    if shape == "llama3":
        begin = tokenizers.processors.TemplateProcessing(
            single="<|endoftext|> $A", pair="<|endoftext|> $A <|endoftext|> $B", special_tokens=[("<|endoftext|>", 0)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    return tokenizer


def made_here(work):
    """Model folders around the trained tokenizers."""
    folders = []
    for shape in ("gpt2", "smollm2", "llama3", "qwen2", "sentencepiece"):
        folder = work / f"like_{shape}"
        shutil.copytree(harness.GOLDEN_MODELS / "llama", folder,
                        ignore=shutil.ignore_patterns("adapter*", "expected*"))
        tokenizer = trained_like(shape, sentences() * 3)
        tokenizer.add_tokens([tokenizers.AddedToken(" lstrip ", lstrip=True, rstrip=True, normalized=False),
                              tokenizers.AddedToken("single", single_word=True)])
        tokenizer.save(str(folder / "tokenizer.json"))
        folders.append(folder)
    return folders


def differences(got, want, values):
    unequal = [(v, g, w) for v, g, w in zip(values, got, want) if g != w]
    if len(got) != len(want):
        return f"{len(got)} lines for {len(want)}"
    return f"{len(unequal)} of {len(values)} differ, first: {unequal[0]!r}"[:600] if unequal else ""


def compare(args, report, folder):
    name = folder.name
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    values = strings(added)
    for special in (False, True):
        with report.attempt(f"{name}: encode, special={special}"):
            got = args.strata.lines("tokenize", "--model", folder, *(["--special"] if special else []), values=values)
            want = [tokenizer.encode(v, add_special_tokens=special).ids for v in values]
            wrong = differences(got, want, values)
            report.check(not wrong, f"{name}: {len(values)} strings, special={special}", wrong)
    draw = random.Random(11)
    size = tokenizer.get_vocab_size()
    ids = [tokenizer.encode(v).ids for v in values]
    ids += [[draw.randrange(size) for _ in range(draw.randint(1, 12))] for _ in range(300)]
    for special in (False, True):
        with report.attempt(f"{name}: decode, special={special}"):
            flags = ["--decode", *(["--special"] if special else [])]
            got = args.strata.lines("tokenize", "--model", folder, *flags, values=ids)
            want = [tokenizer.decode(i, skip_special_tokens=not special) for i in ids]
            wrong = differences(got, want, ids)
            report.check(not wrong, f"{name}: decoding {len(ids)} lists, special={special}", wrong)


def main():
    args = harness.arguments(__doc__, ("--tokenizers", "a folder of further tokenizer.json files, at any depth"))
    report = harness.Report()
    with harness.scratch() as temporary:
        folders = [] if args.no_tiny else made_here(pathlib.Path(temporary))
        if args.models or args.model:
            folders += harness.models(args, tokenizer=True)
        if args.tokenizers:
            folders += [p.parent for p in sorted(pathlib.Path(args.tokenizers).rglob("tokenizer.json"))]
        for folder in folders:
            compare(args, report, folder)
    report.end()


if __name__ == "__main__":
    main()
