"""Benchmarks: loopworkers, its peers and the floor, measured side by side in one run.

    python tests/benchmarks [--quick] [--only NAME ...] [--json FILE] [--markdown FILE]

How it is built, from the outside in:

    __main__, cli     arguments, the list of rows, output
    report, machine   the one table (terminal, Markdown, JSON) and its header
    rows/             one function per line of the table's headings: what to ask whom, which ratio
    harness           interleaved rounds, time limits, ratios paired round by round
    players           starts one process per contender, asks it for a round, ends it
    player            inside that process: opens the pool and carries out rounds
    rounds, faults    the measured code itself, the same for every pool
    ports, workers    the measured code of `Worker`s, which stay; Node's counterpart is threads.mjs
    ours, peers       how each library is called; floor: the same work with no library at all
    node/, nodejs     the same line protocol for Node's pools and worker_threads

Every contender lives in a process of its own, so that one that hangs, crashes or leaks loses its
own figures only. Contenders take turns, round by round, so that drift of a noisy machine hits all
of them alike; a figure is the median over the rounds.
"""
