"""Running experiments: loop, run directories, reports and statistics."""
