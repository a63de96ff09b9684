"""What the application of make.py has its workers do."""

import os
import random
import time


def render_thumbnail(size):
    return _compute(random.uniform(0.02, 0.2) * size)


def parse_invoice(text):
    _compute(0.04)
    return int(text)


def build_report(pages):
    return _compute(0.4 * pages)


def index_document(name):
    _compute(0.05)
    os._exit(1)


def _compute(seconds):
    until, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        count += 1
    return count
