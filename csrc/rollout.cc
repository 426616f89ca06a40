#include "rollout.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace trpo_tf {
namespace {

constexpr int kSaveEvery = 64;  // env steps

// A View is one slot's part of a call.
struct View {
  const RolloutCall& call;
  const size_t s;
  Slot& slot;
  const Loop loop;

  // Returns the place of step t in arrays S x T.
  size_t Step(int t) const { return s * call.T + t; }
};

static_assert(std::is_trivially_destructible_v<View>);

// Saves the state before step t. The actions from there on repeat a divergence.
// To save every state would cost 1 % of a small model's physics.
void SaveState(const View& v, const mjModel* m, const mjData* d, int t) {
  mj_getState(m, d, v.call.saved_states + v.s * v.call.setup.num_state,
              mjSTATE_INTEGRATION);
  v.call.saved_steps[v.s] = t;
}

// Begins an episode. Returns failure bits.
int Reset(const View& v, const mjModel* m, mjData* d, int t) {
  const RolloutCall& c = v.call;
  // The row is counted first, so that an error below does not meet it again.
  const size_t row = v.s * c.R + c.resets_used[v.s]++;
  if (v.slot.episode++ > 0) v.slot.limit = c.setup.time_limit;
  v.slot.elapsed = 0;
  v.slot.episode_return = 0;
  std::fill_n(c.term_sums + v.s * c.J, c.J, 0.0);
  SetPositionAndVelocity(m, d, c.reset_rows + row * c.setup.num_reset);
  SaveState(v, m, d, t);
  const int failure = v.loop.Begin(m, d);
  v.slot.needs_reset = failure != 0;
  return failure;
}

void RecordSnapshot(const View& v, const mjModel* m, const mjData* d, int t) {
  const RolloutCall& c = v.call;
  if (!c.snapshot_index || c.snapshot_index[v.Step(t)] < 0) return;
  const size_t row = c.snapshot_index[v.Step(t)];
  v.loop.TakeSnapshot(m, d, v.slot.elapsed,
                      c.snapshots + row * c.setup.snapshot_size);
}

// Records the observation, the policy's output and the log-probability of the
// action that it draws.
void Act(const View& v, int t) {
  const RolloutCall& c = v.call;
  const size_t k = v.Step(t), at = k * c.A;
  float* recorded = c.observations + k * c.O;
  v.loop.Observe(recorded);
  c.timesteps[k] = static_cast<int32_t>(v.slot.elapsed);
  if (!c.policies.any) return;
  c.log_probs[k] = static_cast<float>(
      v.loop.Act(c.policies, c.policy_index[v.s], recorded, c.noise + at,
                 c.outputs + at, c.actions + at));
}

void RecordBoundary(const View& v, int t) {
  const RolloutCall& c = v.call;
  const int number = c.num_boundaries[v.s]++;
  if (number >= c.B) return;  // RunSlots throws
  const size_t row = v.s * c.B + number;
  v.loop.Observe(c.boundary_observations + row * c.O);
  c.boundary_steps[row] = t;
}

// Records the step's results and marks the end of an episode.
void Record(const View& v, int t) {
  const RolloutCall& c = v.call;
  const size_t k = v.Step(t), n = c.setup.program.num_outputs;
  if (c.task_outputs) std::copy_n(v.loop.outputs(), n, c.task_outputs + k * n);
  c.rewards[k] = v.loop.reward();
  v.slot.episode_return += c.rewards[k];
  double* sums = c.term_sums + v.s * c.J;
  for (int j = 0; j < c.J; j++) sums[j] += v.loop.outputs()[c.O + 2 + j];
  const uint8_t end = v.loop.EndAfter(++v.slot.elapsed, v.slot.limit);
  c.ends[k] = end;
  c.lengths[v.s] = t + 1;
  if (!end) return;
  const bool shortened = end == kTruncated && v.slot.limit < c.setup.time_limit;
  c.episode_returns[k] = shortened ? NAN : v.slot.episode_return;
  std::copy_n(sums, c.J, c.episode_terms + k * c.J);
  v.slot.needs_reset = 1;
  if (end == kTruncated) RecordBoundary(v, t);
}

void RunSlot(const mjModel* m, mjData* d, int sim, void* call) {
  const auto& c = *static_cast<const RolloutCall*>(call);
  const View v{c, static_cast<size_t>(sim), c.sampler.slots[sim],
               c.sampler.LoopOf(sim)};
  c.failures[sim] = 0;
  const int begin = c.lengths[sim];
  for (int t = begin; t < c.T; t++) {
    if (v.slot.needs_reset) {
      if (t >= c.min_steps || c.resets_used[sim] == c.R) return;
      c.failures[sim] = Reset(v, m, d, t);
      if (c.failures[sim]) return;
    }
    if (t == begin || t % kSaveEvery == 0) SaveState(v, m, d, t);
    RecordSnapshot(v, m, d, t);
    if (c.snapshots_only) {
      c.lengths[sim] = t + 1;
      return;
    }
    Act(v, t);
    c.failures[sim] = v.loop.Advance(m, d, c.actions + v.Step(t) * c.A);
    v.slot.needs_reset = c.failures[sim] != 0;
    if (c.failures[sim]) return;
    Record(v, t);
  }
  v.loop.Observe(c.last_observations + v.s * c.O);
}

}  // namespace

void RunSlots(const RolloutCall& call, const std::vector<int>& ids) {
  Sampler& sampler = call.sampler;
  const auto lock = sampler.Lock();
  int before = -1;
  for (int id : ids) {
    Require(before < id && id < call.S, "ids must be ascending slot numbers");
    Require(sampler.slots[id].episode >= 0, "episode must not be negative");
    before = id;
  }
  sampler.Apply(ids, RunSlot, &call, true);
  bool fits = true;
  for (int id : ids) {
    fits = fits && call.num_boundaries[id] <= call.B;
    if (!sampler.failed(id)) continue;
    call.failures[id] |= 1 << kErrorBit;
    sampler.slots[id].needs_reset = 1;
  }
  Require(fits, "boundary_steps holds too few truncations");
}

}  // namespace trpo_tf
