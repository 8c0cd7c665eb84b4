"""What the test beds, their tests and the benchmarks share. One module per concern.

The programs of the beds use program, parent, server, control, journal, clock, faults and settings; those that emulate web
services with one world also application and reply. Tests and benchmarks use launch, client, web, wait, failure, process,
git, agent and checks.

This package requires only Python: some beds run without the Python environment of the emulated AWS. Each program that
is not in the directory above this package adds that directory to sys.path, so it can be started from any directory.
"""
