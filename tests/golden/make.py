#!/usr/bin/env python3
"""Makes the golden files again: every topic, or those named.

    python3 -m venv golden && golden/bin/pip install torch transformers peft safetensors tokenizers gguf numpy pillow
    golden/bin/python tests/golden/make.py [TOPIC ...] [--check]

Topics: model vit images adapters optimizer chat tokenizer tokenizer_train gguf_blocks gguf_model. Which library versions made each is kept
in versions.json.
With --check nothing is kept: each topic is made again, compared with the files that are there, byte by byte, and these are
put back. The exit status says whether a second run changes nothing.
"""
import importlib.metadata
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = HERE / "versions.json"

# Topic (the script's name): the folder it makes, which files in it, the packages that decide what is in them. In the order
# they are made: `adapters` stands on a model of `model`.
TOPICS = {
    "model": ("model", "**/*", ["torch", "transformers", "peft", "safetensors"]),
    "vit": ("vit", "**/*", ["torch", "transformers", "peft", "safetensors"]),
    "images": ("images", "**/*", ["pillow", "numpy"]),
    "adapters": ("adapters", "**/*", ["torch", "transformers", "peft", "safetensors"]),
    "optimizer": ("optimizer", "**/*", ["torch", "transformers"]),
    "chat": ("chat", "**/*", ["tokenizers", "transformers"]),
    "tokenizer": ("tokenizer", "**/*", ["tokenizers"]),
    "tokenizer_train": ("tokenizer_train", "**/*", ["tokenizers"]),
    "gguf_blocks": ("gguf", "[be]*", ["gguf", "numpy"]),
    "gguf_model": ("gguf", "llama31.*", ["gguf", "numpy", "torch", "transformers"]),
}


def chosen(names):
    """The topics named, or all; an unlisted script of this folder and an unknown name end the program."""
    scripts = {p.stem for p in HERE.glob("*.py") if p.stem != "make" and "__main__" in p.read_text()}
    if scripts != TOPICS.keys():
        sys.exit(f"make.py: TOPICS and the scripts here differ: {', '.join(sorted(scripts ^ TOPICS.keys()))}")
    for name in names:
        if name not in TOPICS:
            sys.exit(f"make.py: no topic {name}; there are: {', '.join(TOPICS)}")
    return [topic for topic in TOPICS if topic in names or not names]


def versions(topic):
    return {package: importlib.metadata.version(package).split("+")[0] for package in TOPICS[topic][2]}


def contents(topic):
    folder, which, _ = TOPICS[topic]
    return {p: p.read_bytes() for p in sorted((HERE / folder).glob(which)) if p.is_file()}


def make(topic):
    print(f"== {topic}", flush=True)
    for path in contents(topic):
        path.unlink()
    if subprocess.run([sys.executable, str(HERE / f"{topic}.py")]).returncode != 0:
        sys.exit(f"make.py: {topic}.py failed")


def differences(topic):
    """Makes the topic again; names of the files that changed, came or went. The files that were there are put back."""
    before = contents(topic)
    try:
        make(topic)
        after = contents(topic)
    finally:
        for path in contents(topic):
            path.unlink()
        for path, old in before.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(old)
    return [str(path.relative_to(HERE)) for path in sorted(before.keys() | after.keys())
            if before.get(path) != after.get(path)]


def main():
    words = sys.argv[1:]
    topics = chosen([word for word in words if word != "--check"])
    made_with = json.loads(VERSIONS.read_text()) if VERSIONS.exists() else {}
    if "--check" not in words:
        for topic in topics:
            make(topic)
            made_with[topic] = versions(topic)
        VERSIONS.write_text(json.dumps({t: made_with[t] for t in TOPICS if t in made_with}, indent=2) + "\n")
        return
    changed = []
    for topic in topics:
        if made_with.get(topic) != versions(topic):
            print(f"make.py: {topic} was made with {made_with.get(topic)}, here are {versions(topic)}")
        changed += differences(topic)
    if changed:
        sys.exit("make.py: a second run changes\n  " + "\n  ".join(changed))
    print(f"make.py: a second run changes nothing in {', '.join(topics)}")


if __name__ == "__main__":
    main()
