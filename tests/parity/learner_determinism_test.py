"""A step and a value fit have the same bits in every process."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from trpo_tf import config
from trpo_tf.estimation import surrogate, value_network
from trpo_tf.optim import trust_region
from trpo_tf.policies import gaussian, mlp

pytestmark = pytest.mark.slow


def fingerprint() -> str:
  """Hash of what five policy steps and two value fits make, 9,000 states."""
  rng = np.random.default_rng(0)
  n = 9000  # Three blocks: their sums run in parallel.
  policy = gaussian.gaussian_policy(config.PolicyConfig(), 11, 3)
  theta = policy.initial_parameters(rng)
  x = rng.normal(size=(n, 11)).astype(np.float32)
  mean = policy.outputs(tf.constant(theta), tf.constant(x)).numpy()
  actions = mean + rng.normal(size=mean.shape)
  log_probs = surrogate.distribution64(policy, theta, mean).log_prob(actions)
  data = surrogate.PathData(actions, log_probs, rng.normal(size=n))
  step = trust_region.make_step(
    policy, surrogate.importance_sampled, config.ExperimentConfig(), n
  )
  steps = {step(theta, x, data).theta.tobytes() for _ in range(5)}
  assert len(steps) == 1
  value = value_network.ValueNetwork(
    config.EstimatorConfig(value_epochs=2), mlp.MLP(11, (), 1)
  )
  state = value.initial_state(rng)
  fits = {
    value.fit(
      state, x, None, actions[:, 0], np.random.default_rng(1)
    ).theta.tobytes()
    for _ in range(2)
  }
  assert len(fits) == 1
  return hashlib.sha256(steps.pop() + fits.pop()).hexdigest()


def test_two_processes_agree():
  command = [sys.executable, __file__]
  env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
  runs = [
    subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    for _ in range(2)
  ]
  results = [run.communicate(timeout=300)[0] for run in runs]
  assert [run.returncode for run in runs] == [0, 0]
  assert len(results[0].strip()) == 64
  assert results[0] == results[1]


if __name__ == '__main__':
  print(fingerprint())
