#!/usr/bin/env python3
"""Makes tokenizer.json of the quickstart's base model: byte-level BPE of 1024 tokens learnt from the base corpus.

  python3 make_tokenizer.py BASE.jsonl OUTDIR        (needs the PyPI package `tokenizers`; tried with 0.23)
"""
import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

corpus, out = sys.argv[1], pathlib.Path(sys.argv[2])
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size=1024, special_tokens=["<|end|>"], show_progress=False,
                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
with open(corpus, encoding="utf-8") as lines:
    tokenizer.train_from_iterator((json.loads(line)["text"] for line in lines), trainer)
tokenizer.save(str(out / "tokenizer.json"))
(out / "tokenizer_config.json").write_text(json.dumps(
    {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "<|end|>", "model_max_length": 512,
     "clean_up_tokenization_spaces": False}, indent=1) + "\n")
