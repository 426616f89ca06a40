"""The number of threads of the BLAS changes nothing that is computed."""

import numpy as np
import pytest
import threadpoolctl

from trpo_tf.estimation import amortized, closed_form
from trpo_tf.policies import gaussian, mlp

N, O, A = 20_000, 17, 3
POLICY = gaussian.GaussianPolicy(mlp.MLP(O, (), A), -0.5)


def _linear():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(N, O)).astype(np.float32)
  timesteps, returns = np.arange(N), rng.normal(size=N)
  baseline = closed_form.LinearBaseline(O)
  state = baseline.initial_state(rng)
  state = baseline.fit(state, x, timesteps, returns, rng)
  return state.weights, baseline.predict(state, x, timesteps)


def _amortized():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1000, O)).astype(np.float32)
  noise, returns = rng.normal(size=(1000, 3, A)), rng.normal(size=(1000, 3))
  found = amortized.initial(POLICY, rng).updated(x, noise, returns)
  found = found.updated(x, noise, returns)
  return found.phi, found.values(x, noise[:, 0])


@pytest.mark.parametrize('compute', [_linear, _amortized])
def test_same_bytes_for_any_number_of_threads(compute):
  found = []
  for threads in (1, 2, 3):
    with threadpoolctl.threadpool_limits(threads, 'blas'):
      found.append([array.tobytes() for array in compute()])
      (number,) = {
        pool['num_threads']
        for pool in threadpoolctl.threadpool_info()
        if pool['user_api'] == 'blas'
      }
      assert number == threads  # as before the call
  assert found[0] == found[1] == found[2]
