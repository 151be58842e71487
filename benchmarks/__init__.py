"""What headstock costs, as ratios side by side in one run: `python -m benchmarks` or `make bench`."""
