"""A made-up fleet with known abuse: `python -m bench.fleet OUT [--seed 1] [--licenses 400] [--days 45]`.

It writes `usage.jsonl` and `licenses.jsonl` in the backtest's formats, and `truth.jsonl`: who was abused, how, when.
The same seed makes the same files. `python -m bench.score` holds detections against the truth.
"""
