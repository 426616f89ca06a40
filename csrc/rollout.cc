#include "rollout.h"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace trpo_tf {

namespace {

constexpr int kSaveEvery = 64;  // env steps

void SetPositionAndVelocity(const mjModel* m, mjData* d, const double* row) {
  mj_resetData(m, d);
  std::memcpy(d->qpos, row, sizeof(double) * m->nq);
  std::memcpy(d->qvel, row + m->nq, sizeof(double) * m->nv);
}

// One slot's view of a call.
struct View {
  const RolloutCall& call;
  const int s;
  Slot& slot;
  const Loop loop;

  View(const RolloutWorker& w, int sim)
      : call(*w.call),
        s(sim),
        slot(w.slots[sim]),
        loop(*w.setup, At(w.registers, w.setup->program.num_registers),
             At(w.observations, w.setup->program.observation_size),
             At(w.scratch, ScratchSize(*w.setup))) {}

  // This slot's part of an array with n elements a slot.
  template <typename T>
  T* At(T* array, int n) const {
    return array + static_cast<size_t>(s) * n;
  }

  size_t Step(int t) const {
    return static_cast<size_t>(s) * call.capacity + t;
  }
};

static_assert(std::is_trivially_destructible_v<View>);

// Notes the state before step t; with the actions from there on it repeats a
// divergence. Every step would cost 1 % of a small model's physics.
void SaveState(const View& v, const mjModel* m, const mjData* d, int t) {
  mj_getState(m, d, v.At(v.call.saved_states, v.call.num_state),
              mjSTATE_INTEGRATION);
  v.call.saved_steps[v.s] = t;
}

void Reset(const View& v, const mjModel* m, mjData* d, int t) {
  const Loop& loop = v.loop;
  // counted first, so that an error below is not met again in the same row
  const size_t row = static_cast<size_t>(v.s) * v.call.num_reset_rows +
                     v.call.resets_used[v.s]++;
  if (v.slot.episode++ > 0) v.slot.limit = loop.setup.time_limit;
  v.slot.elapsed = 0;
  v.slot.episode_return = 0;
  SetPositionAndVelocity(m, d, v.call.reset_rows + row * (m->nq + m->nv));
  SaveState(v, m, d, t);
  mj_forward(m, d);
  for (int i = 0; i < loop.num_act; i++) loop.r[loop.program.action + i] = 0;
  for (int i = 0; i < loop.program.reset_passes; i++) {
    loop.EvaluateTask(d);
    loop.UpdatePrevious();
  }
  loop.StoreObservation();
  v.slot.needs_reset = 0;
}

void RecordSnapshot(const View& v, const mjModel* m, const mjData* d, int t) {
  const RolloutCall& c = v.call;
  if (!c.snapshot_index || c.snapshot_index[v.Step(t)] < 0) return;
  const size_t size = SnapshotSize(v.loop.program, c.num_state);
  TakeSnapshot(v.loop, m, d, c.num_state, v.slot.elapsed,
               c.snapshots + size * c.snapshot_index[v.Step(t)]);
}

// Records observation, policy output and log-probability, draws the action.
void Act(const View& v, int t) {
  const RolloutCall& c = v.call;
  const size_t k = v.Step(t);
  float* recorded = c.observations + k * v.loop.num_obs;
  v.loop.Observe(recorded);
  c.timesteps[k] = static_cast<int32_t>(v.slot.elapsed);
  if (!c.policy.theta) return;
  const size_t index = c.policy_index[v.s];
  const size_t A = v.loop.num_act;
  Policy policy = c.policy;
  policy.theta += index * c.num_parameters;
  policy.deviations += index * A;
  policy.log_normalizer = c.log_normalizers[index];
  c.log_probs[k] = static_cast<float>(v.loop.Act(
      policy, recorded, c.noise + k * A, c.outputs + k * A, c.actions + k * A));
}

// Records the step's results; marks the end of an episode.
void Record(const View& v, int t) {
  const RolloutCall& c = v.call;
  const Loop& loop = v.loop;
  const size_t k = v.Step(t);
  if (c.task_outputs) {
    const size_t n = loop.program.num_outputs;
    std::memcpy(c.task_outputs + k * n, loop.outputs(), sizeof(double) * n);
  }
  loop.StoreObservation();
  loop.UpdatePrevious();
  c.rewards[k] = loop.reward();
  v.slot.episode_return += c.rewards[k];
  v.slot.elapsed++;
  uint8_t end = loop.terminated() ? kTerminated : 0;
  if (v.slot.elapsed >= v.slot.limit) end |= kTruncated;
  c.ends[k] = end;
  c.lengths[v.s] = t + 1;
  if (!end) return;
  const bool shortened =
      end == kTruncated && v.slot.limit < loop.setup.time_limit;
  c.episode_returns[k] = shortened ? NAN : v.slot.episode_return;
  v.slot.needs_reset = 1;
  if (end != kTruncated) return;
  const size_t row =
      static_cast<size_t>(v.s) * c.max_truncations + c.num_boundaries[v.s];
  loop.Observe(c.boundary_observations + row * loop.num_obs);
  c.boundary_steps[row] = t;
  c.num_boundaries[v.s]++;
}

}  // namespace

void RunSlot(const mjModel* m, mjData* d, int sim, void* worker) {
  const View v(*static_cast<RolloutWorker*>(worker), sim);
  const RolloutCall& c = v.call;
  c.failures[sim] = 0;
  const int begin = c.lengths[sim];
  for (int t = begin; t < c.capacity; t++) {
    if (v.slot.needs_reset) {
      if (t >= c.min_steps || c.resets_used[sim] == c.num_reset_rows) return;
      Reset(v, m, d, t);
      if (!FiniteRounded(v.loop.observation, v.loop.num_obs)) {
        c.failures[sim] = 1 << kNonFiniteOutput;
        v.slot.needs_reset = 1;
        return;
      }
    }
    if (t == begin || t % kSaveEvery == 0) SaveState(v, m, d, t);
    RecordSnapshot(v, m, d, t);
    Act(v, t);
    v.loop.Control(d, c.actions + v.Step(t) * v.loop.num_act);
    c.failures[sim] = v.loop.Advance(m, d);
    if (c.failures[sim]) {
      v.slot.needs_reset = 1;
      return;
    }
    Record(v, t);
  }
  v.loop.Observe(v.At(c.last_observations, v.loop.num_obs));
}

void RunSlotPhysics(const mjModel* m, mjData* d, int sim, void* worker) {
  const View v(*static_cast<RolloutWorker*>(worker), sim);
  const RolloutCall& c = v.call;
  const double* reset = v.At(c.reset_rows, c.num_reset_rows * (m->nq + m->nv));
  bool needs_reset = v.slot.needs_reset;
  for (int t = 0; t < c.lengths[sim]; t++) {
    if (needs_reset) {
      SetPositionAndVelocity(m, d, reset);
      mj_forward(m, d);
      reset += m->nq + m->nv;
    }
    v.loop.AdvancePhysics(m, d, c.actions + v.Step(t) * v.loop.num_act);
    needs_reset = c.ends[v.Step(t)] != 0;
  }
}

}  // namespace trpo_tf
