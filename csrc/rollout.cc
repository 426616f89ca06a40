#include "rollout.h"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace trpo_tf {

namespace {

constexpr int kNonFiniteOutput = mjNWARNING;  // failure bit beside warnings

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

void SetPositionAndVelocity(const mjModel* m, mjData* d, const double* row) {
  mj_resetData(m, d);
  std::memcpy(d->qpos, row, sizeof(double) * m->nq);
  std::memcpy(d->qvel, row + m->nq, sizeof(double) * m->nv);
}

void UpdatePrevious(const Program& p, double* r) {
  for (int i = 0; i < p.num_prev; i++) r[p.prev + i] = r[p.current[i]];
}

// One slot's view of a call: plain pointers, safe to longjmp over.
struct View {
  const Setup& setup;
  const Program& program;
  const Call& call;
  const int s;
  Slot& slot;
  double* r;  // registers
  double* observation;
  float* scratch;
  const int num_obs, num_act;

  View(const Worker& w, int sim)
      : setup(*w.setup),
        program(setup.program),
        call(*w.call),
        s(sim),
        slot(w.slots[sim]),
        r(w.registers + static_cast<size_t>(sim) * program.num_registers),
        observation(w.observations +
                    static_cast<size_t>(sim) * program.observation_size),
        scratch(w.scratch + static_cast<size_t>(sim) * ScratchSize(setup)),
        num_obs(program.observation_size),
        num_act(setup.num_actions) {}

  size_t Step(int t) const {
    return static_cast<size_t>(s) * call.capacity + t;
  }

  void EvaluateTask(const mjData* d) const {
    Evaluate(program.code.data(), static_cast<int>(program.code.size()), d, r);
  }

  void StoreObservation() const {
    std::memcpy(observation, r + program.outputs, sizeof(double) * num_obs);
  }
};

static_assert(std::is_trivially_destructible_v<View>);

void SaveState(const View& v, const mjModel* m, const mjData* d) {
  mj_getState(m, d,
              v.call.last_states + static_cast<size_t>(v.s) * v.call.num_state,
              mjSTATE_INTEGRATION);
}

void Reset(const View& v, const mjModel* m, mjData* d) {
  // counted first, so that an error below is not met again in the same row
  const size_t row = static_cast<size_t>(v.s) * v.call.num_reset_rows +
                     v.call.resets_used[v.s]++;
  if (v.slot.episode++ > 0) v.slot.limit = v.setup.time_limit;
  v.slot.elapsed = 0;
  v.slot.episode_return = 0;
  SetPositionAndVelocity(m, d, v.call.reset_rows + row * (m->nq + m->nv));
  SaveState(v, m, d);
  mj_forward(m, d);
  for (int i = 0; i < v.num_act; i++) v.r[v.program.action + i] = 0;
  for (int i = 0; i < v.program.reset_passes; i++) {
    v.EvaluateTask(d);
    UpdatePrevious(v.program, v.r);
  }
  v.StoreObservation();
  v.slot.needs_reset = 0;
}

// Records observation, policy output and log-probability, draws the action.
void Act(const View& v, int t) {
  const Call& c = v.call;
  const size_t k = v.Step(t);
  float* recorded = c.observations + k * v.num_obs;
  for (int i = 0; i < v.num_obs; i++) {
    recorded[i] = static_cast<float>(v.observation[i]);
  }
  c.timesteps[k] = static_cast<int32_t>(v.slot.elapsed);
  if (!c.theta) return;

  float* x = v.scratch;
  for (int i = 0; i < v.num_obs; i++) {
    const float z = (recorded[i] - c.mean[i]) * c.inverse_deviation[i];
    const float bound = c.observation_clip;
    x[i] = z < -bound ? -bound : z > bound ? bound : z;
  }
  const size_t policy = c.policy_index[v.s];
  float* output = c.outputs + k * v.num_act;
  Forward(v.setup.network, c.theta + policy * c.num_parameters, x,
          x + v.num_obs, output);

  const double* deviation = c.deviations + policy * v.num_act;
  const double* noise = c.noise + k * v.num_act;
  double log_prob = c.log_normalizers[policy];
  for (int i = 0; i < v.num_act; i++) {
    c.actions[k * v.num_act + i] = output[i] + deviation[i] * noise[i];
    log_prob -= 0.5 * noise[i] * noise[i];
  }
  c.log_probs[k] = static_cast<float>(log_prob);
}

// Writes the control; the task's `action` is what the environment receives.
void Control(const View& v, mjData* d, const double* action) {
  for (int i = 0; i < v.num_act; i++) {
    double u = v.setup.offset[i] + v.setup.scale[i] * action[i];
    if (v.setup.clip_actions) u = Clip(u, v.setup.low[i], v.setup.high[i]);
    d->ctrl[i] = v.r[v.program.action + i] = u;
  }
}

// Whether the observation is finite as it is recorded, in float32.
bool FiniteObservation(const View& v, const double* observation) {
  for (int i = 0; i < v.num_obs; i++) {
    if (!std::isfinite(static_cast<float>(observation[i]))) return false;
  }
  return true;
}

// One env step; returns failure bits, 0 when all is well.
int Advance(const View& v, const mjModel* m, mjData* d) {
  int warnings[mjNWARNING];
  for (int w = 0; w < mjNWARNING; w++) warnings[w] = d->warning[w].number;
  for (int i = 0; i < v.setup.frame_skip; i++) mj_step(m, d);
  ComputeDerived(m, d, v.program.derived);
  v.EvaluateTask(d);
  int failure = RaisedWarnings(d, warnings);
  const double* out = v.r + v.program.outputs;
  if (!FiniteObservation(v, out) || !std::isfinite(out[v.num_obs])) {
    failure |= 1 << kNonFiniteOutput;
  }
  return failure;
}

// Records the step's results; marks the end of an episode.
void Record(const View& v, int t) {
  const Call& c = v.call;
  const size_t k = v.Step(t);
  const double* out = v.r + v.program.outputs;
  if (c.task_outputs) {
    std::memcpy(c.task_outputs + k * v.program.num_outputs, out,
                sizeof(double) * v.program.num_outputs);
  }
  v.StoreObservation();
  UpdatePrevious(v.program, v.r);
  c.rewards[k] = out[v.num_obs];
  v.slot.episode_return += c.rewards[k];
  v.slot.elapsed++;
  uint8_t end = out[v.num_obs + 1] != 0 ? kTerminated : 0;
  if (v.slot.elapsed >= v.slot.limit) end |= kTruncated;
  c.ends[k] = end;
  c.lengths[v.s] = t + 1;
  if (!end) return;
  const bool shortened = end == kTruncated && v.slot.limit < v.setup.time_limit;
  c.episode_returns[k] = shortened ? NAN : v.slot.episode_return;
  v.slot.needs_reset = 1;
  if (end != kTruncated) return;
  const size_t row =
      static_cast<size_t>(v.s) * c.max_truncations + c.num_boundaries[v.s];
  for (int i = 0; i < v.num_obs; i++) {
    c.boundary_observations[row * v.num_obs + i] =
        static_cast<float>(v.observation[i]);
  }
  c.boundary_steps[row] = t;
  c.num_boundaries[v.s]++;
}

void RecordLastObservation(const View& v) {
  for (int i = 0; i < v.num_obs; i++) {
    v.call.last_observations[static_cast<size_t>(v.s) * v.num_obs + i] =
        static_cast<float>(v.observation[i]);
  }
}

}  // namespace

int ScratchSize(const Setup& setup) {
  return setup.program.observation_size + 2 * setup.network.Width();
}

void RunSlot(const mjModel* m, mjData* d, int sim, void* worker) {
  const View v(*static_cast<Worker*>(worker), sim);
  const Call& c = v.call;
  c.failures[sim] = 0;
  for (int t = c.lengths[sim]; t < c.capacity; t++) {
    if (v.slot.needs_reset) {
      if (t >= c.min_steps || c.resets_used[sim] == c.num_reset_rows) return;
      Reset(v, m, d);
      if (!FiniteObservation(v, v.observation)) {
        c.failures[sim] = 1 << kNonFiniteOutput;
        v.slot.needs_reset = 1;
        return;
      }
    }
    SaveState(v, m, d);
    Act(v, t);
    Control(v, d, c.actions + v.Step(t) * v.num_act);
    c.failures[sim] = Advance(v, m, d);
    if (c.failures[sim]) {
      v.slot.needs_reset = 1;
      return;
    }
    Record(v, t);
  }
  RecordLastObservation(v);
}

void RunPhysics(const mjModel* m, mjData* d, int sim, void* worker) {
  const View v(*static_cast<Worker*>(worker), sim);
  const Call& c = v.call;
  const double* reset = c.reset_rows + static_cast<size_t>(sim) *
                                           c.num_reset_rows * (m->nq + m->nv);
  bool needs_reset = v.slot.needs_reset;
  for (int t = 0; t < c.lengths[sim]; t++) {
    if (needs_reset) {
      SetPositionAndVelocity(m, d, reset);
      mj_forward(m, d);
      reset += m->nq + m->nv;
    }
    const double* action = c.actions + v.Step(t) * v.num_act;
    for (int i = 0; i < v.num_act; i++) {
      d->ctrl[i] = Clip(v.setup.offset[i] + v.setup.scale[i] * action[i],
                        v.setup.low[i], v.setup.high[i]);
    }
    for (int i = 0; i < v.setup.frame_skip; i++) mj_step(m, d);
    ComputeDerived(m, d, v.program.derived);
    needs_reset = c.ends[v.Step(t)] != 0;
  }
}

}  // namespace trpo_tf
