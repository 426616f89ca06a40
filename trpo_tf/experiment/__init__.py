"""Experiments: training loop, run directories, reports and statistics."""
