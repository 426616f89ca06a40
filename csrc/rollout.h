// Slots run in a closed loop: they observe, act, step and record, and reset at
// the ends of episodes.
#ifndef TRPO_TF_CSRC_ROLLOUT_H_
#define TRPO_TF_CSRC_ROLLOUT_H_

#include <mujoco/mujoco.h>

#include <cstdint>
#include <vector>

#include "engine.h"

namespace trpo_tf {

// The counts of an environment's episodes; native/slots.py lists its state.
struct Slot {
  int64_t elapsed;        // env steps of the running episode
  int64_t episode;        // resets so far
  int64_t needs_reset;    // 1: the next step begins with a reset
  int64_t limit;          // env steps after which the episode is truncated;
                          // a first episode may be shortened to stagger slots
  double episode_return;  // undiscounted, so far
};

// A Sampler is an engine whose simulations keep their state from call to call.
struct Sampler : Engine {
  Sampler(uintptr_t model_address, const py::dict& setup, int num_slots,
          int num_threads)
      : Engine(model_address, setup, num_slots, num_threads),
        slots(num_slots, Slot{0, 0, 1, this->setup().time_limit, 0}) {}

  std::vector<Slot> slots;
};

// A RolloutCall holds inputs and records of one call, arrays of the caller.
struct RolloutCall {
  Arrays& in;
  Sampler& sampler;
  const Setup& setup = sampler.setup();
  int S = sampler.num_sims();
  int O = setup.num_obs, A = setup.num_act;
  int T = in.Size("rewards", 2, 1);         // steps of a slot
  int R = in.Size("reset_rows", 3, 1);      // resets
  int B = in.Size("boundary_steps", 2, 1);  // truncations
  // a slot stops at the first end of an episode from here on
  int min_steps = in.Has("min_steps") ? in.Get<int>("min_steps") : T;

  // Without policies the given actions are replayed.
  Policies policies{in, setup, in.Has("theta") ? in.Size("theta", 2, 0) : 0};
  const int32_t* policy_index = in.TakeIndices<const int32_t>(
      "policy_index", {S}, 0, policies.count - 1, policies.any);
  const double* noise = in.Take<const double>("noise", {S, T, A}, policies.any);
  const double* reset_rows =
      in.Take<const double>("reset_rows", {S, R, setup.num_reset});

  float* observations = in.Take<float>("observations", {S, T, O});
  double* actions = in.Take<double>("actions", {S, T, A});  // unclipped
  // means of the policy
  float* outputs = in.Take<float>("outputs", {S, T, A}, policies.any);
  float* log_probs = in.Take<float>("log_probs", {S, T}, policies.any);
  double* rewards = in.Take<double>("rewards", {S, T});
  uint8_t* ends = in.Take<uint8_t>("ends", {S, T});
  int32_t* timesteps = in.Take<int32_t>("timesteps", {S, T});  // of the episode
  // where an episode ended; NaN where it was shortened
  double* episode_returns = in.Take<double>("episode_returns", {S, T});
  // the reward's terms, summed over the running episode and where one ended
  int J = setup.program.num_outputs - O - 2;
  double* term_sums = in.Take<double>("term_sums", {S, J});
  double* episode_terms = in.Take<double>("episode_terms", {S, T, J});
  // where an episode was truncated: the observation after its last step
  float* boundary_observations =
      in.Take<float>("boundary_observations", {S, B, O});
  int32_t* boundary_steps = in.Take<int32_t>("boundary_steps", {S, B});
  int32_t* num_boundaries =
      in.TakeIndices<int32_t>("num_boundaries", {S}, 0, B);
  float* last_observations = in.Take<float>("last_observations", {S, O});
  int32_t* lengths = in.TakeIndices<int32_t>("lengths", {S}, 0, T);  // next
  int32_t* resets_used = in.TakeIndices<int32_t>("resets_used", {S}, 0, R);
  int32_t* failures = in.Take<int32_t>("failures", {S});  // bits, or 0
  // a row not long before the last step, and the step before which it was
  double* saved_states = in.Take<double>("saved_states", {S, setup.num_state});
  int32_t* saved_steps = in.Take<int32_t>("saved_steps", {S});
  // all outputs of the task's program, if wanted
  double* task_outputs =
      in.Take<double>("task_outputs", {S, T, setup.program.num_outputs},
                      in.Has("task_outputs"));
  // snapshots before the actions of some steps, if wanted, and of each step the
  // row that it is to fill, or -1
  int num_snapshots = in.Has("snapshots") ? in.Size("snapshots", 2, 0) : 0;
  double* snapshots = in.Take<double>(
      "snapshots", {num_snapshots, setup.snapshot_size}, num_snapshots > 0);
  const int32_t* snapshot_index = in.TakeIndices<const int32_t>(
      "snapshot_index", {S, T}, -1, num_snapshots - 1, num_snapshots > 0);
  // a slot stops before its first action
  bool snapshots_only = in.Has("snapshots_only");
};

// Runs each slot of `ids`, which ascend, until its capacity, its stop, its last
// reset row or a divergence. A slot that diverged has failures != 0; the caller
// may call again, which resets it.
void RunSlots(const RolloutCall& call, const std::vector<int>& ids);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ROLLOUT_H_
