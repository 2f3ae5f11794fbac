#!/usr/bin/env python3
"""Speed and memory of LoRA training by transformers and PEFT, in the shapes of `strata bench train`.

    peft_train.py --model DIR --dtype f32|bf16|bf16-weights --records 4 --length 256 --rank 16 [--data FILE.jsonl]
    peft_train.py --model DIR --records 8 --tokens FILE.jsonl --init PEFT_DIR [--record-clip 1.0]     (see run)

Prints one JSON object; the fields that strata also reports have its names. See bench/README.md.
"""
import argparse
import contextlib
import json
import os
import pathlib
import resource
import statistics
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16", "bf16-weights"], default="f32")
    parser.add_argument("--records", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="tokens of a record; with --data the longest kept")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="all-linear", help="all-linear, or names separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="sdpa")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--data", type=pathlib.Path, help="records of real lengths, padded to the longest of a batch")
    parser.add_argument("--tokens", type=pathlib.Path, help="records as input_ids and labels, padded like --data")
    parser.add_argument("--init", type=pathlib.Path, help="PEFT folder whose factors the adapters start from")
    parser.add_argument("--record-clip", type=float, help="DP-SGD by Opacus: clip each record's gradient")
    parser.add_argument("--noise-multiplier", type=float, default=0.0, help="of --record-clip: Opacus's usual noise")
    return parser.parse_args()


def random_batches(torch, vocabulary, args):
    """Full records: no padding. All tokens are trained."""
    draw = torch.Generator().manual_seed(0)
    while True:
        ids = torch.randint(0, vocabulary, (args.records, args.length), generator=draw)
        yield dict(input_ids=ids, labels=ids.clone()), ids.numel()


def encoded(tokenizer, line, longest):
    record = json.loads(line)
    prompt = record.get("prompt", record.get("question"))
    completion = record.get("completion", record.get("answer"))
    if prompt is None or completion is None:
        sys.exit("a record needs prompt and completion, or question and answer")
    head = tokenizer(prompt + "\n")["input_ids"]
    ids = head + tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return ids[:longest], min(len(head), longest)


def file_batches(torch, args):
    """Records in file order, over and over; padding on the right, masked; loss on the completion."""
    wanted = args.records * (args.steps + args.warmup)
    if args.tokens:
        rows = [json.loads(line) for line in args.tokens.read_text().splitlines()][:wanted]
        records = [(row["input_ids"], row["labels"]) for row in rows]
    else:
        import transformers
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, local_files_only=True)
        lines = [line for line in args.data.read_text().splitlines() if line.strip()][:wanted]
        records = []
        for ids, head in (encoded(tokenizer, line, args.length) for line in lines):
            records.append((ids, [-100] * head + ids[head:]))
    at = 0
    while True:
        batch = [records[(at + i) % len(records)] for i in range(args.records)]
        at += args.records
        width = max(len(ids) for ids, _ in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        labels = torch.full((len(batch), width), -100)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, (tokens, wanted_labels) in enumerate(batch):
            ids[row, :len(tokens)] = torch.tensor(tokens)
            labels[row, :len(tokens)] = torch.tensor(wanted_labels)
            mask[row, :len(tokens)] = 1
        yield dict(input_ids=ids, labels=labels, attention_mask=mask), int(mask.sum())


def prepare(torch, args):
    import peft
    import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.bfloat16 if args.dtype == "bf16-weights" else torch.float32
    base = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, local_files_only=True,
                                                             attn_implementation=args.attention)
    targets = args.targets if args.targets == "all-linear" else args.targets.split(",")
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=args.rank, lora_alpha=2 * args.rank,
                                                      lora_dropout=0.0, target_modules=targets))
    if args.init:
        from safetensors.torch import load_file
        start = load_file(args.init / "adapter_model.safetensors")
        own = {name.replace(".default.", "."): p for name, p in model.named_parameters() if p.requires_grad}
        if set(own) != set(start):
            sys.exit(f"{args.init} is for other layers")
        with torch.no_grad():
            for name, p in own.items():
                p.copy_(start[name])  # B starts at 0, so that the file's folded scale does not matter
    if args.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    model.config.use_cache = False
    return model.train()


def gemm_peak(torch, dtype, seconds=1.0):
    """GFLOP/s of a large square product: what the machine gives this library."""
    n = 1024
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    best, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        a @ b
        best = max(best, 2 * n ** 3 / (time.perf_counter() - before))
    return best / 1e9


def private(torch, args, model, optimizer):
    """Opacus's way of single records' gradients: hooks on every trained layer, then clipping and noise."""
    import warnings
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    warnings.filterwarnings("ignore")
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="mean", strict=False)
    return wrapped, DPOptimizer(optimizer, noise_multiplier=args.noise_multiplier, max_grad_norm=args.record_clip,
                                expected_batch_size=args.records)


def record_losses(torch, model, batch):
    """Mean over records of each record's mean token loss, to differentiate; and the mean token loss, to report."""
    labels = batch["labels"]
    logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1].float()
    wanted = labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=-100, reduction="none")
    counts = (wanted != -100).sum(1)
    return (losses.sum(1) / counts).mean(), losses.sum() / counts.sum()


def measure(torch, args, model, batches):
    """Times of whole steps after the warm-up, and the tokens in them: real, and computed with padding."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    autocast = contextlib.nullcontext() if args.dtype == "f32" else torch.autocast("cpu", dtype=torch.bfloat16)
    if args.record_clip:
        model, optimizer = private(torch, args, model, optimizer)
    times, real, computed, losses = [], 0, 0, []
    for step in range(args.warmup + args.steps):
        batch, tokens = next(batches)
        start = time.perf_counter()
        with autocast:
            if args.record_clip:
                backward, loss = record_losses(torch, model, batch)
            else:
                backward = loss = model(**batch).loss
        backward.backward()
        if not args.record_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= args.warmup:
            times.append(time.perf_counter() - start)
            real += tokens
            computed += batch["input_ids"].numel()
        losses.append(float(loss.detach()))
    return times, real, computed, losses


def main():
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch is loaded
    import peft
    import torch
    import transformers
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = prepare(torch, args)
    rss_loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    vocabulary = model.config.vocab_size
    batches = file_batches(torch, args) if args.data or args.tokens else random_batches(torch, vocabulary, args)
    times, real, computed, losses = measure(torch, args, model, batches)
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "program": "peft", "torch": torch.__version__, "transformers": transformers.__version__,
        "peft": peft.__version__, "model": pathlib.Path(args.model).name, "dtype": args.dtype, "records": args.records,
        "length": args.length, "rank": args.rank, "targets": args.targets, "threads": args.threads,
        "attention": args.attention, "checkpointing": args.checkpointing, "data": str(args.tokens or args.data or "random"),
        "steps": args.steps,
        "tokens_per_second": real / sum(times),
        "padded_tokens_per_second": computed / sum(times),
        "padding_share": 1 - real / computed,
        "median_step_s": statistics.median(times),
        "gemm_peak_gflops": gemm_peak(torch, torch.float32 if args.dtype == "f32" else torch.bfloat16),
        "peak_rss_bytes": peak_rss, "loaded_rss_bytes": rss_loaded, "losses": losses,
    }, indent=1))


if __name__ == "__main__":
    main()
