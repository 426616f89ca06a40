"""A slow second implementation of the task language and the native sampler.

It evaluates expression graphs with NumPy on `mujoco.MjData` and steps with
MuJoCo's Python bindings, one simulation after the other. It shares no code with
tasks/program.py, sampling/native.py or csrc; `prev` is a dictionary of the last
step's values, and a reset evaluates it by its definition.
"""

import ctypes
import dataclasses
import functools

import mujoco
import numpy as np

from trpo_tf.tasks.expression import Expression
from trpo_tf.tasks.task import CompiledTask

TERMINATED, TRUNCATED = 1, 2
_INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION


_LIBM = ctypes.CDLL(None)


def _libm(name: str, operands: int = 1):
  """Element by element through libm, which the native program calls too.

  NumPy's own functions may differ from libm's by an ulp where it has vector
  code for the processor, and Python's raise errors instead of returning the
  infinities and NaNs of libm.
  """
  function = getattr(_LIBM, name)
  function.restype = ctypes.c_double
  function.argtypes = [ctypes.c_double] * operands
  return np.vectorize(lambda *x: function(*x), otypes=[np.float64])


def _truth(x: np.ndarray) -> np.ndarray:
  return np.asarray(x, np.float64)


_ELEMENTWISE = {
  'negate': lambda x: -x,
  'abs': np.abs,
  'sin': _libm('sin'),
  'cos': _libm('cos'),
  'exp': _libm('exp'),
  'log': _libm('log'),
  'tanh': _libm('tanh'),
  'atan2': _libm('atan2', 2),
  'power': _libm('pow', 2),
  'square': np.square,
  'sqrt': np.sqrt,
  'not': lambda x: _truth(x == 0),
  'add': np.add,
  'subtract': np.subtract,
  'multiply': np.multiply,
  'divide': np.divide,
  'minimum': lambda x, y: np.where((y < x) | np.isnan(y), y, x),
  'maximum': lambda x, y: np.where((y > x) | np.isnan(y), y, x),
  'less': lambda x, y: _truth(x < y),
  'less_equal': lambda x, y: _truth(x <= y),
  'and': lambda x, y: _truth((x != 0) & (y != 0)),
  'or': lambda x, y: _truth((x != 0) | (y != 0)),
  'clip': lambda x, low, high: np.where(
    (x < low) | np.isnan(low),
    low,
    np.where((x > high) | np.isnan(high), high, x),
  ),
  'where': lambda condition, x, y: np.where(condition != 0, x, y),
}


def _norm(x: np.ndarray) -> float:
  total = 0.0
  for value in x.ravel():
    total += value * value
  return np.sqrt(total)


def _weighted_sum(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
  total = np.zeros(rows.shape[1])
  for weight, row in zip(weights, rows, strict=True):
    total = total + weight * row
  return total


_WHOLE = {
  'sum': lambda x: np.sum(np.ascontiguousarray(x).ravel()),
  'norm': _norm,
  'all': lambda x: float((x != 0).all()),
  'all_finite': lambda x: float(np.isfinite(x).all()),
  'weighted_sum': _weighted_sum,
}

# What must be seen of an operation for its tests to mean something. Not of
# all_finite: a simulation that is no longer finite is a divergence and recorded
# by neither side; and not of `not`, which repeats what it negates.
_OUTCOMES = {
  'clip': ('below', 'inside', 'above'),
  'minimum': ('first', 'second'),
  'maximum': ('first', 'second'),
  'less': ('true', 'false'),
  'less_equal': ('true', 'false'),
  'and': ('true', 'false'),
  'or': ('true', 'false'),
  'all': ('true', 'false'),
}


def _outcomes(op: str, inputs: list[np.ndarray], result: np.ndarray) -> set:
  if op == 'clip':
    x, low, high = inputs
    seen = {
      'below': x < low,
      'above': x > high,
      'inside': (x > low) & (x < high),
    }
  elif op in ('minimum', 'maximum'):
    x, y = inputs
    first = x < y if op == 'minimum' else x > y
    seen = {'first': first, 'second': ~first & (x != y)}
  else:
    seen = {'true': result != 0, 'false': result == 0}
  return {name for name, where in seen.items() if np.any(where)}


class Graph:
  """The expressions of a compiled task, evaluated with NumPy.

  Attributes:
    seen: outcomes of each operation so far, by position in `nodes`.
  """

  def __init__(self, compiled: CompiledTask):
    d = compiled.definition
    self.roots = [d.observation, d.reward, d.terminated, *d.terms.values()]
    self.nodes: list[Expression] = []
    self.seen: dict[int, set[str]] = {}
    known: set[int] = set()

    def visit(node: Expression) -> None:
      if id(node) in known:
        return
      known.add(id(node))
      for child in node.inputs:
        visit(child)
      self.nodes.append(node)

    for root in self.roots:
      visit(root)
    self.fields = {n.data[0] for n in self.nodes if n.op == 'load'}

  def derive(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Computes the fields that mj_step leaves out, if the task reads them."""
    if self.fields & {'cacc', 'cfrc_int', 'cfrc_ext'}:
      mujoco.mj_rnePostConstraint(model, data)
    if self.fields & {'subtree_linvel', 'subtree_angmom'}:
      mujoco.mj_subtreeVel(model, data)

  def evaluate(
    self, data: mujoco.MjData, action: np.ndarray, before: dict | None
  ) -> tuple[np.ndarray, dict]:
    """All outputs, and what `prev` will be after this step.

    Args:
      data: after the step.
      action: what the environment received.
      before: what the last call returned; None at a reset.

    Returns:
      float64 [observation, reward, terminated, terms]; values for `before`.
    """
    values: dict[int, np.ndarray] = {}
    with np.errstate(all='ignore'):
      for k, node in enumerate(self.nodes):
        inputs = [values[id(child)] for child in node.inputs]
        result = self._value(node, inputs, data, action, before)
        values[id(node)] = result
        if node.op in _OUTCOMES:
          new = _outcomes(node.op, inputs, result)
          self.seen.setdefault(k, set()).update(new)
    after = {
      id(node): values[id(node.inputs[0])]
      for node in self.nodes
      if node.op == 'prev'
    }
    return np.concatenate([values[id(r)].ravel() for r in self.roots]), after

  def _value(self, node, inputs, data, action, before) -> np.ndarray:
    if node.op == 'constant':
      value = node.data
    elif node.op == 'action':
      value = action
    elif node.op == 'time':
      value = data.time
    elif node.op == 'load':
      field, start, stride = node.data
      place = start + stride * np.arange(node.size)
      value = getattr(data, field).ravel()[place]
    elif node.op == 'take':
      start, stride = node.data
      value = inputs[0].ravel()[start + stride * np.arange(node.size)]
    elif node.op == 'concatenate':
      value = np.concatenate([x.ravel() for x in inputs])
    elif node.op == 'prev':
      value = inputs[0] if before is None else before[id(node)]
    elif node.op in _WHOLE:
      value = _WHOLE[node.op](*inputs)
    else:
      fitting = [x.ravel()[0] if x.size == 1 else x for x in inputs]
      value = _ELEMENTWISE[node.op](*fitting)
    return np.array(value, np.float64).reshape(node.shape)

  def unseen(self) -> list[str]:
    """Outcomes that no evaluation has had, in words."""
    return [
      f'{node.op} of {[child.op for child in node.inputs]} at {k}: {outcome}'
      for k, node in enumerate(self.nodes)
      for outcome in _OUTCOMES.get(node.op, ())
      if outcome not in self.seen.get(k, ())
    ]


@dataclasses.dataclass(frozen=True)
class Start:
  """An environment before an action, as the oracle had it.

  Attributes:
    row: float64 mjSTATE_INTEGRATION.
    before: values of the `prev`s.
    observation: float64 [O].
    elapsed: env steps of the episode.
  """

  row: np.ndarray
  before: dict
  observation: np.ndarray
  elapsed: int


@dataclasses.dataclass
class _Slot:
  data: mujoco.MjData
  before: dict | None = None
  observation: np.ndarray | None = None
  elapsed: int = 0
  episode: int = 0
  needs_reset: bool = True
  limit: int = 0
  episode_return: float = 0.0


class Slots:
  """What NativeSlots does, with one MjData per slot, for recorded actions."""

  def __init__(
    self,
    compiled: CompiledTask,
    num_slots: int,
    *,
    scale: np.ndarray | float = 1.0,
    offset: np.ndarray | float = 0.0,
    clip_actions: bool = True,
    first_limits: np.ndarray | None = None,
  ):
    self.compiled, self.graph = compiled, Graph(compiled)
    self.scale, self.offset, self.clip_actions = scale, offset, clip_actions
    model = compiled.model
    self.slots = [_Slot(mujoco.MjData(model)) for _ in range(num_slots)]
    for k, slot in enumerate(self.slots):
      limit = compiled.task.time_limit
      slot.limit = limit if first_limits is None else int(first_limits[k])

  def rollout(self, actions: np.ndarray, reset_rows) -> dict[str, np.ndarray]:
    """Runs every slot for all of its actions.

    Args:
      actions: float64 [S, T, A].
      reset_rows: initial states by slot and episode, as NativeSlots takes.

    Returns:
      Arrays named as the native sampler's, and as those of a Batch:
      boundary_index, boundary_observations, episode_returns, episode_lengths,
      in order of slot and step; and `starts`, the Start of each (slot, step).
    """
    S, T, _ = actions.shape
    num_obs = self.graph.roots[0].size
    out = dict(
      observations=np.zeros((S, T, num_obs), np.float32),
      rewards=np.zeros((S, T)),
      ends=np.zeros((S, T), np.uint8),
      timesteps=np.zeros((S, T), np.int32),
      task_outputs=np.zeros((S, T, sum(r.size for r in self.graph.roots))),
      last_observations=np.zeros((S, num_obs), np.float32),
      lengths=np.full(S, T, np.int32),
    )
    ended: dict[str, list] = dict(
      boundary_index=[],
      boundary_observations=[],
      episode_returns=[],
      episode_lengths=[],
    )
    starts: dict[tuple[int, int], Start] = {}
    for s, slot in enumerate(self.slots):
      for t in range(T):
        if slot.needs_reset:
          episodes = np.array([slot.episode for slot in self.slots])
          self._reset(slot, reset_rows(episodes, 2)[s, 0])
        out['observations'][s, t] = slot.observation
        out['timesteps'][s, t] = slot.elapsed
        starts[s, t] = self._start(slot)
        self._step(slot, actions[s, t], out, ended, (s, t))
      out['last_observations'][s] = slot.observation
    lists = {name: np.array(values) for name, values in ended.items()}
    return out | lists | dict(starts=starts)

  def branch(
    self, start: Start, actions: np.ndarray, time_limit: bool = False
  ) -> dict:
    """A branch of recorded actions, in an MjData of its own.

    Args:
      start: where it begins.
      actions: float64 [L, A].
      time_limit: whether the task's time limit ends it.

    Returns:
      Of the steps until its end or L: observations before them, rewards,
      contacts after them; the last step's end; and the Start that is reached.
    """
    model = self.compiled.model
    slot = _Slot(
      mujoco.MjData(model), start.before, start.observation, start.elapsed
    )
    slot.limit = (
      self.compiled.task.time_limit
      if time_limit
      else len(actions) + start.elapsed + 1
    )
    mujoco.mj_setState(model, slot.data, start.row, _INTEGRATION)
    observations, rewards, contacts, end = [], [], [], 0
    for action in actions:
      observations.append(slot.observation.astype(np.float32))
      reward, end = self._advance(slot, action)[:2]
      rewards.append(reward)
      contacts.append(slot.data.ncon)
      if end:
        break
    return dict(
      observations=np.array(observations),
      rewards=np.array(rewards),
      contacts=np.array(contacts),
      end=end,
      reached=self._start(slot),
    )

  def _start(self, slot: _Slot) -> Start:
    model = self.compiled.model
    row = np.empty(mujoco.mj_stateSize(model, _INTEGRATION))
    mujoco.mj_getState(model, slot.data, row, _INTEGRATION)
    return Start(row, slot.before, slot.observation, slot.elapsed)

  def _reset(self, slot: _Slot, row: np.ndarray) -> None:
    model, data = self.compiled.model, slot.data
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[:] = row[: model.nq], row[model.nq :]
    mujoco.mj_forward(model, data)
    outputs, slot.before = self.graph.evaluate(data, np.zeros(model.nu), None)
    slot.observation = outputs[: self.graph.roots[0].size]
    if slot.episode > 0:
      slot.limit = self.compiled.task.time_limit
    slot.elapsed, slot.episode_return = 0, 0.0
    slot.episode, slot.needs_reset = slot.episode + 1, False

  def _advance(self, slot: _Slot, action) -> tuple[float, int, np.ndarray]:
    """An env step: its reward, how it ends, all outputs."""
    model, data = self.compiled.model, slot.data
    control = self.offset + self.scale * action
    if self.clip_actions:
      control = np.clip(control, self.compiled.low, self.compiled.high)
    data.ctrl[:] = control
    mujoco.mj_step(model, data, nstep=self.compiled.task.frame_skip)
    assert not sum(w.number for w in data.warning), 'the oracle diverged'
    self.graph.derive(model, data)
    outputs, slot.before = self.graph.evaluate(data, control, slot.before)
    size = self.graph.roots[0].size
    slot.observation, slot.elapsed = outputs[:size], slot.elapsed + 1
    end = (TERMINATED if outputs[size + 1] != 0 else 0) | (
      TRUNCATED if slot.elapsed >= slot.limit else 0
    )
    return outputs[size], end, outputs

  def _step(self, slot: _Slot, action, out, ended, place) -> None:
    reward, end, out['task_outputs'][place] = self._advance(slot, action)
    out['rewards'][place], out['ends'][place] = reward, end
    slot.episode_return += reward
    full = slot.limit == self.compiled.task.time_limit
    if end and (full or end & TERMINATED):
      ended['episode_returns'].append(slot.episode_return)
      ended['episode_lengths'].append(slot.elapsed)
    if end == TRUNCATED:
      ended['boundary_index'].append(place)
      ended['boundary_observations'].append(slot.observation.astype(np.float32))
    slot.needs_reset = end != 0


def network(
  theta: np.ndarray, sizes: tuple[int, ...], activation: str, x: np.ndarray
) -> np.ndarray:
  """The policy network in float64.

  Args:
    theta: [W1 (in x out, row-major), b1, W2, b2, ...].
    sizes: units of the input, the hidden layers and the output.
    activation: 'tanh', 'softplus' or 'relu'.
    x: [N, in].

  Returns:
    float64 [N, out].
  """
  theta, x = theta.astype(np.float64), x.astype(np.float64)
  for layer, (rows, columns) in enumerate(zip(sizes, sizes[1:], strict=False)):
    weights = theta[: rows * columns].reshape(rows, columns)
    bias = theta[rows * columns :][:columns]
    theta = theta[(rows + 1) * columns :]
    x = x @ weights + bias
    if layer < len(sizes) - 2:
      x = {
        'tanh': np.tanh,
        'softplus': functools.partial(np.logaddexp, 0),
        'relu': functools.partial(np.maximum, 0),
      }[activation](x)
  return x
