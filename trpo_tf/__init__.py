"""Trust region policy optimisation with a native MuJoCo sampler."""
