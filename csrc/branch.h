// Branches of the vine (section 5.2): from every snapshot K given first
// actions, each followed by the policy under M noise sequences that the K
// actions share.
#ifndef TRPO_TF_CSRC_BRANCH_H_
#define TRPO_TF_CSRC_BRANCH_H_

#include <mujoco/mujoco.h>

#include <atomic>
#include <cstdint>

#include "loop.h"

namespace trpo_tf {

// Inputs and records of one call, C-contiguous arrays of the caller: N states,
// K actions, M noise sequences, B = N x K x M branches of up to L env steps.
struct BranchCall {
  int num_states, num_firsts, num_trials, horizon;  // N, K, M, L
  int num_state;
  bool time_limit;  // whether the task's time limit ends a branch
  double gamma;

  const double* snapshots;      // N x SnapshotSize
  const double* first_actions;  // N x K x A
  const double* noise;          // N x M x L x A; the first step's is not used
  Policy policy;

  double* returns;            // B, discounted
  int32_t* lengths;           // B, env steps
  uint8_t* ends;              // B, 0: alive at the horizon
  int32_t* failures;          // B, warning bits of a divergence, or 0
  float* final_observations;  // B x O, after the last step
  double* final_states;       // B x SnapshotSize, there, or null
  float* observations;        // B x L x O before each action, or null
  double* actions;            // B x L x A, or null
  double* rewards;            // B x L, or null

  int64_t num_branches() const {
    return static_cast<int64_t>(num_states) * num_firsts * num_trials;
  }
};

// A simulation that runs branches one after the other.
struct BranchWorker {
  const Setup* setup;
  const BranchCall* call;
  std::atomic<int64_t>* next;  // branch to begin
  int64_t* running;            // workers, the branch that each is at
  double* registers;           // workers x program registers
  double* observations;        // workers x O
  double* actions;             // workers x A
  float* scratch;              // workers x ScratchSize
};

// Runs branches until none is left, as an mjfBatchFunc of worker `sim`. Which
// worker runs which branch does not matter: a branch is a function of its
// snapshot, first action, noise and policy.
void RunBranches(const mjModel* m, mjData* d, int sim, void* worker);

// The physics alone of recorded branches: the same start rows, actions,
// lengths, substeps and derived quantities. Needs actions and lengths.
void RunBranchPhysics(const mjModel* m, mjData* d, int sim, void* worker);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_BRANCH_H_
