#!/usr/bin/env python3
"""`strata privacy epsilon` against dp-accounting: releases drawn at random, billed by both.

The pld accountant, whose mesh follows from its tolerance, must lie between the library's lower bound (losses rounded down)
and its own connect-the-dots bound at interval 1e-4, but for the tolerance; the rdp accountant at or above the library's
divergences at whole orders, and within 16 % of them. --write FILE keeps the draws and what the library makes of them
(tests/golden/privacy/held_out.json, which ctest reads) instead of running strata. Needs dp-accounting 0.6.0.
"""
import argparse
import json
import math
import random

import dp_accounting
from dp_accounting import pld, rdp
from dp_accounting.pld import privacy_loss_distribution as distributions

import harness

INTERVAL = 1e-4
TOLERANCE = 1e-3  # of the accountant's default mesh
ORDERS = list(range(2, 257)) + [320, 384, 448, 512, 640, 768, 1024]
RELATIONS = {"add_remove": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
             "replace_one": dp_accounting.NeighboringRelation.REPLACE_ONE}


def log_uniform(draw, low, high):
    return float(f"{math.exp(draw.uniform(math.log(low), math.log(high))):.4g}")


def gaussian(draw):
    return {"noise_multiplier": log_uniform(draw, 0.4, 12.0), "sampling_rate": log_uniform(draw, 2e-4, 0.9),
            "steps": round(log_uniform(draw, 1, 4000))}


def cases(seed, count):
    """Every fifth of two or three phases, every fifth with Laplace, every sixth of the others swapped."""
    draw = random.Random(seed)
    for index in range(count):
        phases = [gaussian(draw) for _ in range(draw.randint(2, 3) if index % 5 == 3 else 1)]
        if index % 5 == 4:
            phases.append({"laplace_scale": log_uniform(draw, 2.0, 100.0), "steps": draw.randint(1, 50)})
        yield {"adjacency": "replace_one" if index % 6 == 5 and index % 5 != 4 else "add_remove", "phases": phases,
               "delta": log_uniform(draw, 1e-9, 1e-3)}


def event(phase):
    if "laplace_scale" in phase:
        return dp_accounting.LaplaceDpEvent(phase["laplace_scale"])
    return dp_accounting.PoissonSampledDpEvent(phase["sampling_rate"],
                                               dp_accounting.GaussianDpEvent(phase["noise_multiplier"]))


def lower_bound(case):
    """Losses rounded down to the interval: no accountant may go below."""
    total = None
    for phase in case["phases"]:
        common = {"value_discretization_interval": INTERVAL, "pessimistic_estimate": False, "use_connect_dots": False}
        if "laplace_scale" in phase:
            one = distributions.from_laplace_mechanism(phase["laplace_scale"], **common)
        else:
            one = distributions.from_gaussian_mechanism(phase["noise_multiplier"],
                                                        sampling_prob=phase["sampling_rate"], **common)
        part = one.self_compose(phase["steps"])
        total = part if total is None else total.compose(part)
    return total.get_epsilon_for_delta(case["delta"])


def billed(case):
    """The case with the library's epsilons."""
    relation = RELATIONS[case["adjacency"]]
    tight = pld.PLDAccountant(relation, INTERVAL)
    for phase in case["phases"]:
        tight.compose(event(phase), phase["steps"])
    out = {**case, "pld": tight.get_epsilon(case["delta"])}
    if case["adjacency"] == "add_remove":
        renyi = rdp.RdpAccountant(ORDERS, relation)
        for phase in case["phases"]:
            renyi.compose(event(phase), phase["steps"])
        out["rdp_integer_orders"] = renyi.get_epsilon(case["delta"])
        out["pld_lower"] = lower_bound(case)
    return out


def within_reach(case):
    return 0.001 < case["pld"] < 40.0


def compare(report, strata, case):
    what = f"{case['adjacency']} {len(case['phases'])} phases, epsilon {case['pld']:.4f}"
    kinds = ["pld", "rdp"] if case["adjacency"] == "add_remove" else ["pld"]
    got = {}
    for kind in kinds:
        got[kind] = strata.data("privacy", "epsilon", "--accountant", kind, "--adjacency", case["adjacency"], "--delta",
                                case["delta"], "--phases", json.dumps(case["phases"]))["epsilon"]
    low = case.get("pld_lower", case["pld"] - TOLERANCE)
    report.check(max(low, 0) - 1e-6 <= got["pld"] <= case["pld"] + TOLERANCE, f"pld: {what}",
                 f"{got['pld'] - case['pld']:+.1e}")
    if "rdp" in got:
        library = case["rdp_integer_orders"]
        report.check(0.6 * library <= got["rdp"] <= library * (1 + 1e-9) and got["rdp"] >= got["pld"] - TOLERANCE,
                     f"rdp: {what}", f"{got['rdp'] - library:+.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strata", help="the binary")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=48, help="draws, of which extreme ones are left out")
    parser.add_argument("--write", help="write the golden file instead")
    args, _ = parser.parse_known_args()
    if not args.strata and not args.write:
        parser.error("give --strata or --write")
    found = [case for case in map(billed, cases(args.seed, args.count)) if within_reach(case)]
    if args.write:
        text = ",\n ".join(json.dumps(case) for case in found)
        with open(args.write, "w") as file:
            file.write(f'{{"seed": {args.seed}, "interval": {INTERVAL}, "cases": [\n {text}\n]}}\n')
        return
    report = harness.Report()
    strata = harness.Strata(args.strata)
    for case in found:
        with report.attempt("privacy epsilon"):
            compare(report, strata, case)
    report.end()


if __name__ == "__main__":
    main()
