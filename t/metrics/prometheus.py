#!/usr/bin/env python3
"""Reads metrics from standard input with the parser of Prometheus' own Python client, and makes the checks of promtool.
Prints one line for each complaint, or "ok" and the number of families and samples.

prometheus.py NAME LABEL      prints instead the values of that label in the samples of that name, one per line
"""
import sys

from prometheus_client.parser import text_string_to_metric_families

text = sys.stdin.buffer.read().decode("utf-8")
families = list(text_string_to_metric_families(text))

if len(sys.argv) > 1:
    name, label = sys.argv[1:]
    for family in families:
        for sample in family.samples:
            if sample.name == name:
                print(ascii(sample.labels[label]))
    sys.exit()

complaints = []
seen = set()
for family in families:
    if not family.documentation or family.type == "unknown":
        complaints.append(f"{family.name}: no HELP or no TYPE")
    histograms = {}
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            complaints.append(f"{key}: twice")
        seen.add(key)
        if not sample.name.startswith("resty_mtls_"):
            complaints.append(f"{sample.name}: not ours")
        if family.type == "counter" and not sample.name.endswith("_total"):
            complaints.append(f"{sample.name}: a counter without _total")
        if family.type != "gauge" and sample.value < 0:
            complaints.append(f"{key}: negative")
        if family.type == "histogram":
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            one = histograms.setdefault(tuple(labels.items()), {"buckets": []})
            if sample.name.endswith("_bucket"):
                one["buckets"].append((float(sample.labels["le"]), sample.value))
            else:
                one[sample.name[len(family.name):]] = sample.value
    for labels, one in histograms.items():
        bounds, values = zip(*one["buckets"])
        if list(bounds) != sorted(bounds) or list(values) != sorted(values) or bounds[-1] != float("inf"):
            complaints.append(f"{family.name}{labels}: buckets out of order")
        if values[-1] != one["_count"] or "_sum" not in one:
            complaints.append(f"{family.name}{labels}: sum or count is wrong")

print("\n".join(complaints) or f"ok: {len(families)} families, {len(seen)} samples")
