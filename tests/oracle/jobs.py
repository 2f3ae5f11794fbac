"""Job files for the oracles: one client, local data, what the libraries are compared on."""
import json


def job(folder, data, *, adapter, training, rounds=1, evaluation=None):
    """A federation of one client that trains on `data` in file order. `training` overrides the settings."""
    return {
        "version": 1,
        "model": {"path": str(folder), "dtype": "f32"},
        "adapter": adapter,
        "clients": [{"name": "only", "data": str(data)}],
        "training": {"shuffle": False, "optimizer": "adamw", "schedule": "constant", "weight_decay": 0.0,
                     "max_grad_norm": 0.0, **training},
        "aggregation": {"method": "flora", "rounds": rounds},
        "privacy": {"mode": "none"},
        **({"evaluation": evaluation} if evaluation else {}),
    }


def run(strata, description, work, name, threads):
    """Writes the job, runs it and returns the run's folder."""
    path = work / f"{name}.json"
    path.write_text(json.dumps(description, indent=1))
    out = work / f"{name}-out"
    strata.run("run", path, "-o", out, "--threads", threads)
    return out


def step_losses(out):
    """The loss of every optimizer step, in order, from metrics.jsonl."""
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [e["loss"] for e in events if e.get("event") == "step"]


def adapter_folders(out):
    """Every PEFT adapter a run left, in order of rounds."""
    return sorted(p.parent for p in out.rglob("adapter_model.safetensors"))


def final_model(out):
    """The merged checkpoint of a run, if the job asked for one."""
    found = sorted(p.parent for p in out.rglob("config.json") if list(p.parent.glob("model*.safetensors")))
    return found[-1] if found else None
