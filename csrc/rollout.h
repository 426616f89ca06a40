// Slots in a closed loop: observe, act, step, record; reset at the ends of
// episodes.
#ifndef TRPO_TF_CSRC_ROLLOUT_H_
#define TRPO_TF_CSRC_ROLLOUT_H_

#include <mujoco/mujoco.h>

#include <cstdint>

#include "loop.h"

namespace trpo_tf {

// A simulation beside its MuJoCo row: with it, the whole environment state.
struct Slot {
  int64_t elapsed;        // env steps of the running episode
  int64_t episode;        // resets so far
  int64_t needs_reset;    // 1: the next step begins with a reset
  int64_t limit;          // env steps after which the episode is truncated;
                          // a first episode may be shortened to stagger slots
  double episode_return;  // undiscounted, so far
};

// Inputs and records of one call; arrays are the caller's, C-contiguous, with
// S slots, T = capacity steps, O observations, A actions, P parameters.
struct RolloutCall {
  int capacity;
  int min_steps;  // a slot stops at the first end of an episode from here on
  int num_parameters, num_reset_rows, max_truncations, num_state;

  Policy policy;                  // of policy 0; theta null: replay `actions`
  const double* log_normalizers;  // policies
  const int32_t* policy_index;    // S
  const double* noise;            // S x T x A
  const double* reset_rows;       // S x num_reset_rows x (nq + nv)
  const int32_t* snapshot_index;  // S x T, row of `snapshots` that a step is
                                  // to fill, or -1; or null

  float* observations;           // S x T x O, before the action
  double* actions;               // S x T x A, unclipped
  float* outputs;                // S x T x A, policy means
  float* log_probs;              // S x T
  double* rewards;               // S x T
  uint8_t* ends;                 // S x T
  int32_t* timesteps;            // S x T, within the episode
  double* episode_returns;       // S x T, where an episode ended; NaN where
                                 // it was shortened
  float* boundary_observations;  // S x max_truncations x O
  int32_t* boundary_steps;       // S x max_truncations
  int32_t* num_boundaries;       // S
  float* last_observations;      // S x O
  int32_t* lengths;              // S, in and out: the next step to record
  int32_t* resets_used;          // S, in and out
  int32_t* failures;             // S, out: warning bits of a divergence, or 0
  double* saved_states;          // S x num_state, a row not long before the
                                 // last step,
  int32_t* saved_steps;          // S, and the step before which it was
  double* task_outputs;          // S x T x program outputs, or null
  double* snapshots;             // x SnapshotSize, taken before the action
};

// where a worker finds what belongs to a slot
struct RolloutWorker {
  const Setup* setup;
  const RolloutCall* call;
  Slot* slots;           // S
  double* registers;     // S x program registers
  double* observations;  // S x O, current
  float* scratch;        // S x ScratchSize
};

// Runs slot `sim` until its capacity, its stop, its last reset row or a
// divergence (failures[sim] != 0; the caller may call again, which resets).
// An mjfBatchFunc: MuJoCo errors longjmp through it, so nothing in it has a
// destructor, and all progress lies in the caller's arrays.
void RunSlot(const mjModel* m, mjData* d, int sim, void* worker);

// The physics alone of what RunSlot recorded, the limit of its speed: the same
// actions, substeps, derived quantities and resets, without policy, task,
// record or checks. Its call needs actions, ends, lengths and reset_rows.
void RunSlotPhysics(const mjModel* m, mjData* d, int sim, void* worker);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ROLLOUT_H_
