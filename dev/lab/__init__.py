"""Two nodes, a switch and a client in network namespaces: for the demo, tests and benchmarks."""
