// The pieces of one env step that slots and branches share: policy, control,
// physics, task.
#ifndef TRPO_TF_CSRC_LOOP_H_
#define TRPO_TF_CSRC_LOOP_H_

#include <mujoco/mujoco.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "policy.h"
#include "program.h"

namespace trpo_tf {

// bits of an end of an episode; 0: the episode goes on
enum End : uint8_t { kTerminated = 1, kTruncated = 2, kDiverged = 4 };

// failure bit beside those of MuJoCo's warnings, and of an error it raised
constexpr int kNonFiniteOutput = mjNWARNING, kErrorBit = mjNWARNING + 1;

// what is fixed for a sampler
struct Setup {
  Program program;
  Network network;
  int frame_skip;
  int time_limit;  // env steps of an episode
  int num_actions;
  bool clip_actions;
  std::vector<double> low, high;      // control range
  std::vector<double> scale, offset;  // control = offset + scale * action
};

// A policy of P parameters and its observation normaliser.
struct Policy {
  const float* theta;              // P
  const double* deviations;        // A
  double log_normalizer;           // log density at zero noise
  const float* mean;               // O
  const float* inverse_deviation;  // O
  float observation_clip;
};

// One simulation's working memory and what is fixed for it. Nothing in it has
// a destructor: MuJoCo errors longjmp over it.
struct Loop {
  const Setup& setup;
  const Program& program;
  double* r;            // registers
  double* observation;  // O, current
  float* scratch;       // ScratchSize
  const int num_obs, num_act;

  Loop(const Setup& setup, double* registers, double* observation,
       float* scratch);

  // Runs the task's program, and keeps the observation it gave.
  void EvaluateTask(const mjData* d) const;
  void StoreObservation() const;
  // The values that the next step's prev() reads.
  void UpdatePrevious() const;

  const double* outputs() const { return r + program.outputs; }
  double reward() const { return outputs()[num_obs]; }
  bool terminated() const { return outputs()[num_obs + 1] != 0; }

  // Rounds the observation to float32 (O).
  void Observe(float* rounded) const;
  // The policy's output (A) for a rounded observation and the action (A) that
  // it draws with the noise (A); returns the action's log-probability.
  double Act(const Policy& policy, const float* rounded, const double* noise,
             float* output, double* action) const;
  // Writes the control; the task's `action` is what the environment receives.
  void Control(mjData* d, const double* action) const;
  // Physics and task of one env step; returns failure bits, 0: all is well.
  int Advance(const mjModel* m, mjData* d) const;
  // The physics of Control and Advance alone.
  void AdvancePhysics(const mjModel* m, mjData* d, const double* action) const;
};

static_assert(std::is_trivially_destructible_v<Loop>);

// Floats that Act uses, and behind them an output and a rounded observation.
int ScratchSize(const Setup& setup);

// Whether a row of n is finite in float32.
bool FiniteRounded(const double* row, int n);

// A snapshot of an environment is [row, observation, prev values, elapsed]:
// derived fields are never recomputed, as MuJoCo's integrators leave them at
// an earlier stage than a new mj_forward would.
int SnapshotSize(const Program& program, int num_state);
void TakeSnapshot(const Loop& loop, const mjModel* m, const mjData* d,
                  int num_state, int64_t elapsed, double* snapshot);
// Returns the elapsed env steps.
int64_t RestoreSnapshot(const Loop& loop, const mjModel* m, mjData* d,
                        int num_state, const double* snapshot);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_LOOP_H_
