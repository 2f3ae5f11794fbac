"""What the oracles share: the command line, running strata, the models to try, and one report per oracle.

An oracle compares the built binary with the libraries its users already have (transformers, PEFT, tokenizers), on real
models. Oracles are run by people, not by ctest: they need packages and models that a build does not.
"""
import argparse
import contextlib
import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN_MODELS = ROOT / "tests" / "golden" / "model"
IGNORED = -100  # the label of a token that is not trained on


@dataclasses.dataclass
class Record:
    tokens: list
    trained: list  # trained[t]: the prediction of token t counts; trained[0] is False

    def json(self):
        labels = [t if on else IGNORED for t, on in zip(self.tokens, self.trained)]
        return json.dumps({"input_ids": self.tokens, "labels": labels})


class Report:
    """Prints a line per comparison; `end` gives the exit status."""

    def __init__(self):
        self.failed = 0
        self.passed = 0

    def check(self, holds, what, detail=""):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what:58} {detail}", flush=True)
        return holds

    def close(self, actual, expected, tolerance, what):
        """Relative distance of two numbers, or of two lists by their worst pair."""
        actual, expected = ([x] if isinstance(x, (int, float)) else list(x) for x in (actual, expected))
        if len(actual) != len(expected):
            return self.check(False, what, f"{len(actual)} values, expected {len(expected)}")
        worst = max((abs(a - e) / max(abs(e), 1e-12) for a, e in zip(actual, expected)), default=0.0)
        return self.check(worst <= tolerance, what, f"relative {worst:.1e}, allowed {tolerance:.0e}")

    def skip(self, what, why):
        print(f"skip {what:58} {why}", flush=True)

    def attempt(self, what):
        """A block in which any failure to run is reported instead of ending the oracle."""
        return _Attempt(self, what)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed or not self.passed else 0)


class _Attempt(contextlib.AbstractContextManager):
    def __init__(self, report, what):
        self.report, self.what = report, what

    def __exit__(self, kind, error, trace):
        if error is None or not isinstance(error, Exception):
            return False
        self.report.check(False, self.what, f"{kind.__name__}: {error}")
        return True


class Strata:
    def __init__(self, binary):
        self.binary = str(pathlib.Path(binary).resolve())

    def run(self, *args, text=None):
        """stdout of a command that must succeed."""
        done = subprocess.run([self.binary, *map(str, args)], input=text, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError(f"strata {args[0]} left with {done.returncode}: {''.join(last)}")
        return done.stdout

    def data(self, *args):
        """`data` of the one JSON object that --format json prints."""
        envelope = json.loads(self.run(*args, "--format", "json"))
        if envelope.get("status") != "ok":
            raise RuntimeError(f"strata {args[0]}: status {envelope.get('status')}: {envelope.get('message')}")
        return envelope["data"]

    def lines(self, *args, values):
        """One JSON value a line in, one a line out."""
        text = "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values)
        return [json.loads(line) for line in self.run(*args, text=text).splitlines()]


def arguments(description, *extra):
    """The options every oracle has; `extra` are (flag, help) of its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strata", required=True, help="the binary")
    parser.add_argument("--models", type=pathlib.Path, help="a folder of Hugging Face model folders")
    parser.add_argument("--model", type=pathlib.Path, action="append", default=[], help="one more model folder")
    parser.add_argument("--no-tiny", action="store_true", help="leave out the tiny models of tests/golden/model")
    parser.add_argument("--threads", type=int, default=2)
    for flag, text in extra:
        parser.add_argument(flag, help=text)
    args = parser.parse_args()
    args.strata = Strata(args.strata)
    return args


def models(args, tokenizer=False):
    """The folders to try, each once; with `tokenizer` only those that have one."""
    found = list(args.model)
    if args.models:
        found += [p.parent for p in sorted(args.models.glob("*/config.json"))]
    if not args.no_tiny and not tokenizer:
        found += [p.parent for p in sorted(GOLDEN_MODELS.glob("*/config.json"))]
    found = [p for p in dict.fromkeys(f.resolve() for f in found) if not tokenizer or (p / "tokenizer.json").exists()]
    if not found:
        sys.exit("no model to try: give --models FOLDER or --model FOLDER")
    return found


def load(folder, dtype=None):
    """The model as transformers has it: float32, eager attention, nothing random."""
    import torch
    import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype or torch.float32, attn_implementation="eager", local_files_only=True).eval()


def load_adapter(folder, adapter, trainable=False):
    import peft
    return peft.PeftModel.from_pretrained(load(folder), adapter, is_trainable=trainable).eval()


def random_adapter(folder, into, seed, **settings):
    """A PEFT adapter with random A and B, saved by PEFT. B is small: a real one moves logits, it does not drown them."""
    import peft
    import torch
    settings = {"r": 8, "lora_alpha": 12, "target_modules": "all-linear", **settings}
    base = load(folder)
    fused = base.config.model_type == "gpt2"
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=fused, **settings))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_A" in name:
                value.copy_(torch.randn(value.shape, generator=draw) / value.shape[1] ** 0.5)
            elif "lora_B" in name:
                value.copy_(0.02 * torch.randn(value.shape, generator=draw))
    model.save_pretrained(into)
    return into


def random_records(folder, seed, count=8, longest=48):
    """Records of random ids below the model's vocabulary, trained in part; lengths from 2 tokens up."""
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    draw = random.Random(seed)
    records = []
    for index in range(count):
        length = 2 if index == 0 else draw.randint(3, longest)
        trained = [t > 0 and draw.random() < 0.7 for t in range(length)]
        trained[-1] = True
        records.append(Record([draw.randrange(vocabulary) for _ in range(length)], trained))
    return records


def logits(model, record):
    import torch
    return model(input_ids=torch.tensor([record.tokens])).logits[0]


def loss_sum(model, record):
    """Sum over trained tokens of -log p(token | tokens before it), and how many there are."""
    import torch
    each = torch.nn.functional.cross_entropy(logits(model, record)[:-1].float(), torch.tensor(record.tokens[1:]),
                                             reduction="none")
    mask = torch.tensor(record.trained[1:])
    return (each * mask).sum(), int(mask.sum())


def write_records(path, records):
    path.write_text("".join(r.json() + "\n" for r in records))
    return path


def scratch():
    """A folder that goes away."""
    return tempfile.TemporaryDirectory(prefix="strata-oracle-")
