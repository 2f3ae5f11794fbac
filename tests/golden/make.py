#!/usr/bin/env python3
"""Makes the golden files again: runs every other script of this folder, or those named.

    python3 -m venv golden && golden/bin/pip install torch transformers peft safetensors tokenizers
    golden/bin/python tests/golden/make.py [model ...] [--check]

With --check nothing may change: the files are made again and compared with what git holds.
"""
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def scripts(names):
    """The scripts that make something: those with a `main`, except this one."""
    found = {p.stem: p for p in sorted(HERE.glob("*.py")) if p.name != "make.py" and "__main__" in p.read_text()}
    unknown = [name for name in names if name not in found]
    if unknown:
        sys.exit(f"make.py: no script {unknown[0]}.py here; there are: {', '.join(found)}")
    return [found[name] for name in names] if names else list(found.values())


def main():
    check = "--check" in sys.argv[1:]
    for script in scripts([a for a in sys.argv[1:] if a != "--check"]):
        print(f"== {script.name}", flush=True)
        if subprocess.run([sys.executable, str(script)]).returncode != 0:
            sys.exit(f"make.py: {script.name} failed")
    if check:
        changed = subprocess.run(["git", "status", "--porcelain", "--", str(HERE)], capture_output=True, text=True,
                                 cwd=HERE, check=True).stdout
        if changed:
            sys.exit("make.py: these files differ from what git holds:\n" + changed)


if __name__ == "__main__":
    main()
