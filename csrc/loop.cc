#include "loop.h"

#include <cmath>
#include <cstring>

namespace trpo_tf {

namespace {

double Clip(double x, double low, double high) {
  return x < low ? low : x > high ? high : x;
}

// sum of the warnings' bits that have risen since `before`
int RaisedWarnings(const mjData* d, const int* before) {
  int bits = 0;
  for (int w = 0; w < mjNWARNING; w++) {
    if (d->warning[w].number > before[w]) bits |= 1 << w;
  }
  return bits;
}

}  // namespace

Loop::Loop(const Setup& setup, double* registers, double* observation,
           float* scratch)
    : setup(setup),
      program(setup.program),
      r(registers),
      observation(observation),
      scratch(scratch),
      num_obs(program.observation_size),
      num_act(setup.num_actions) {}

void Loop::EvaluateTask(const mjData* d) const {
  Evaluate(program.code.data(), static_cast<int>(program.code.size()), d, r);
}

void Loop::StoreObservation() const {
  std::memcpy(observation, outputs(), sizeof(double) * num_obs);
}

void Loop::UpdatePrevious() const {
  for (int i = 0; i < program.num_prev; i++) {
    r[program.prev + i] = r[program.current[i]];
  }
}

void Loop::Observe(float* rounded) const {
  for (int i = 0; i < num_obs; i++) {
    rounded[i] = static_cast<float>(observation[i]);
  }
}

double Loop::Act(const Policy& policy, const float* rounded,
                 const double* noise, float* output, double* action) const {
  float* x = scratch;
  const float bound = policy.observation_clip;
  for (int i = 0; i < num_obs; i++) {
    const float z = (rounded[i] - policy.mean[i]) * policy.inverse_deviation[i];
    x[i] = z < -bound ? -bound : z > bound ? bound : z;
  }
  Forward(setup.network, policy.theta, x, x + num_obs, output);
  double log_prob = policy.log_normalizer;
  for (int i = 0; i < num_act; i++) {
    action[i] = output[i] + policy.deviations[i] * noise[i];
    log_prob -= 0.5 * noise[i] * noise[i];
  }
  return log_prob;
}

void Loop::Control(mjData* d, const double* action) const {
  for (int i = 0; i < num_act; i++) {
    double u = setup.offset[i] + setup.scale[i] * action[i];
    if (setup.clip_actions) u = Clip(u, setup.low[i], setup.high[i]);
    d->ctrl[i] = r[program.action + i] = u;
  }
}

int Loop::Advance(const mjModel* m, mjData* d) const {
  int warnings[mjNWARNING];
  for (int w = 0; w < mjNWARNING; w++) warnings[w] = d->warning[w].number;
  for (int i = 0; i < setup.frame_skip; i++) mj_step(m, d);
  ComputeDerived(m, d, program.derived);
  EvaluateTask(d);
  int failure = RaisedWarnings(d, warnings);
  if (!FiniteRounded(outputs(), num_obs) || !std::isfinite(reward())) {
    failure |= 1 << kNonFiniteOutput;
  }
  return failure;
}

void Loop::AdvancePhysics(const mjModel* m, mjData* d,
                          const double* action) const {
  for (int i = 0; i < num_act; i++) {
    double u = setup.offset[i] + setup.scale[i] * action[i];
    if (setup.clip_actions) u = Clip(u, setup.low[i], setup.high[i]);
    d->ctrl[i] = u;
  }
  for (int i = 0; i < setup.frame_skip; i++) mj_step(m, d);
  ComputeDerived(m, d, program.derived);
}

int ScratchSize(const Setup& setup) {
  return 2 * setup.program.observation_size + 2 * setup.network.Width() +
         setup.num_actions;
}

bool FiniteRounded(const double* row, int n) {
  // from here on a double rounds to an infinite float: 2^128 - 2^103
  constexpr double kBound = 0x1.ffffffp127;
  int inside = 0;
  for (int i = 0; i < n; i++) inside += std::fabs(row[i]) < kBound;
  return inside == n;
}

int SnapshotSize(const Program& program, int num_state) {
  return num_state + program.observation_size + program.num_prev + 1;
}

void TakeSnapshot(const Loop& loop, const mjModel* m, const mjData* d,
                  int num_state, int64_t elapsed, double* snapshot) {
  mj_getState(m, d, snapshot, mjSTATE_INTEGRATION);
  snapshot += num_state;
  std::memcpy(snapshot, loop.observation, sizeof(double) * loop.num_obs);
  snapshot += loop.num_obs;
  const int num_prev = loop.program.num_prev;
  std::memcpy(snapshot, loop.r + loop.program.prev, sizeof(double) * num_prev);
  snapshot[num_prev] = static_cast<double>(elapsed);
}

int64_t RestoreSnapshot(const Loop& loop, const mjModel* m, mjData* d,
                        int num_state, const double* snapshot) {
  mj_setState(m, d, snapshot, mjSTATE_INTEGRATION);
  snapshot += num_state;
  std::memcpy(loop.observation, snapshot, sizeof(double) * loop.num_obs);
  snapshot += loop.num_obs;
  const int num_prev = loop.program.num_prev;
  std::memcpy(loop.r + loop.program.prev, snapshot, sizeof(double) * num_prev);
  return static_cast<int64_t>(snapshot[num_prev]);
}

}  // namespace trpo_tf
