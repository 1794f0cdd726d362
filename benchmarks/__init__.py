"""Benchmarks: how nodeseal does against what the machine can do at best, and against its peers. See README.md."""
