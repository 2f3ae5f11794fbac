#!/usr/bin/env python3
"""Small tokenizers in the shapes of GPT-2, SmolLM2, Llama 3, Qwen 2 and SentencePiece with byte fallback, trained by the tokenizers
library on the sentences of tests/oracle, with what the library makes of those sentences: ids with and without special tokens, and the
text of the ids with and without them.

  python3 tests/golden/tokenizer.py        writes tests/golden/tokenizer/<shape>.json
"""
import json
import pathlib
import sys

import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "oracle"))
import tokenizer_oracle  # noqa: E402


def main():
    out = HERE / "tokenizer"
    out.mkdir(exist_ok=True)
    texts = tokenizer_oracle.sentences()
    for shape in ("gpt2", "smollm2", "llama3", "qwen2", "sentencepiece"):
        tokenizer = tokenizer_oracle.trained_like(shape, texts * 3)
        tokenizer.add_tokens([tokenizers.AddedToken(" lstrip ", lstrip=True, rstrip=True, normalized=False),
                              tokenizers.AddedToken("single", single_word=True)])
        added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        pieces = [a[len(a) // 3:] + b[: len(b) // 2] for a, b in zip(texts, texts[7:] + texts[:7])] + [t[1:9] for t in texts]
        cases = texts + pieces + [f"a{t}b {t} {t}{t}\n" for t in added if len(t) < 20][:12]
        rows = []
        for text in cases:
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            special = tokenizer.encode(text, add_special_tokens=True).ids
            rows.append([text, plain, special, tokenizer.decode(special, skip_special_tokens=True),
                         tokenizer.decode(special, skip_special_tokens=False)])
        golden = {"tokenizer": json.loads(tokenizer.to_str()), "cases": rows}
        (out / f"{shape}.json").write_text(json.dumps(golden, separators=(",", ":"), sort_keys=False))


if __name__ == "__main__":
    main()
