// This file holds what slots and branches share: one env step with its policy,
// control, physics and task, and the simulations on MuJoCo's batch engine.
#ifndef TRPO_TF_CSRC_ENGINE_H_
#define TRPO_TF_CSRC_ENGINE_H_

#include <mujoco/mjbatch.h>
#include <mujoco/mujoco.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "policy.h"
#include "program.h"

namespace trpo_tf {

// bits of an end of an episode; 0: the episode goes on
enum End : uint8_t { kTerminated = 1, kTruncated = 2, kDiverged = 4 };

// failure bit beside those of MuJoCo's warnings, and of an error it raised
constexpr int kNonFiniteOutput = mjNWARNING, kErrorBit = mjNWARNING + 1;

// A Setup is what is fixed for a sampler of O observations and A actions.
struct Setup {
  Arrays in;
  const mjModel* model;  // the caller's, then the engine's copy
  Program program{Arrays(in.Get<py::dict>("program"))};
  Network network{in.Get<std::vector<int>>("layer_sizes"),
                  Activation{in.Get<int>("activation")}};
  int frame_skip = in.Get<int>("frame_skip");
  int time_limit = in.Get<int>("time_limit");  // env steps of an episode
  bool clip_actions = in.Get<bool>("clip_actions");
  // A, control range
  std::vector<double> low = in.Get<std::vector<double>>("low");
  std::vector<double> high = in.Get<std::vector<double>>("high");
  // A, control = offset + scale * action
  std::vector<double> scale = in.Get<std::vector<double>>("scale");
  std::vector<double> offset = in.Get<std::vector<double>>("offset");
  int num_obs = program.observation_size, num_act = model->nu;  // O, A
  int num_state = mj_stateSize(model, mjSTATE_INTEGRATION);
  int num_reset = model->nq + model->nv;  // doubles of a reset row
  // doubles of a snapshot (see Loop::TakeSnapshot)
  int snapshot_size = num_state + num_obs + program.num_prev + 1;
  // floats that Loop::Act uses, and behind them an output and a rounded
  // observation
  int scratch_size = 2 * num_obs + 2 * network.Width() + num_act;

  // Throws unless it fits the model.
  void Check() const;

  // Returns control i for an action.
  double Control(int i, double action) const {
    const double u = offset[i] + scale[i] * action;
    if (!clip_actions) return u;
    return u < low[i] ? low[i] : u > high[i] ? high[i] : u;
  }

  // Computes the physics of one env step and what the task needs of it.
  void StepPhysics(const mjModel* m, mjData* d) const {
    for (int i = 0; i < frame_skip; i++) mj_step(m, d);
    ComputeDerived(m, d, program.derived);
  }
};

// Policies are those of one call, of P parameters each, with their observation
// normaliser. The arrays are null if there is no policy.
struct Policies {
  Arrays& in;
  const Setup& setup;
  int count;
  bool any = count > 0;
  py::ssize_t A = setup.num_act, O = setup.num_obs;
  py::ssize_t P = setup.network.NumParameters() + A;
  const float* theta = in.Take<const float>("theta", {count, P}, any);
  const double* deviations =
      in.Take<const double>("deviations", {count, A}, any);
  // log densities at zero noise
  const double* log_normalizers =
      in.Take<const double>("log_normalizers", {count}, any);
  const float* mean = in.Take<const float>("mean", {O}, any);
  const float* inverse_deviation =
      in.Take<const float>("inverse_deviation", {O}, any);
  float observation_clip = any ? in.Get<float>("observation_clip") : 0;
};

// A Loop is one simulation's working memory and what is fixed for it. Nothing
// in it has a destructor, because MuJoCo errors longjmp over it.
struct Loop {
  const Setup& setup;
  double* r;            // registers
  double* observation;  // O, current
  float* scratch;       // scratch_size

  const double* outputs() const { return r + setup.program.outputs; }
  double reward() const { return outputs()[setup.num_obs]; }
  double terminated() const { return outputs()[setup.num_obs + 1]; }

  // Returns bits of End after so many env steps of an episode.
  uint8_t EndAfter(int64_t elapsed, int64_t limit) const {
    return (terminated() != 0 ? kTerminated : 0) |
           (elapsed >= limit ? kTruncated : 0);
  }

  // Rounds the observation to float32 (O).
  void Observe(float* rounded) const {
    for (int i = 0; i < setup.num_obs; i++) {
      rounded[i] = static_cast<float>(observation[i]);
    }
  }

  // Writes a policy's output (A) for a rounded observation and the action (A)
  // that it draws with the noise (A). Returns the action's log-probability.
  double Act(const Policies& policies, int index, const float* rounded,
             const double* noise, float* output, double* action) const;

  // Computes control, physics and task of one env step. The task's `action` is
  // what the environment receives. Returns failure bits, or 0 if all is well;
  // only then it keeps what the next step reads.
  int Advance(const mjModel* m, mjData* d, const double* action) const;

  // Computes the task of a state that no step led to. Returns failure bits.
  int Begin(const mjModel* m, mjData* d) const;

  // Keeps the observation that the task's program gave.
  void StoreObservation() const {
    std::memcpy(observation, outputs(), sizeof(double) * setup.num_obs);
  }
  // Keeps the values that the next step's prev() reads.
  void UpdatePrevious() const {
    const Program& program = setup.program;
    for (int i = 0; i < program.num_prev; i++) {
      r[program.prev + i] = r[program.current[i]];
    }
  }

  // A snapshot of an environment is [row, observation, prev values, elapsed
  // env steps]. Derived fields are never recomputed, as MuJoCo's integrators
  // leave them at an earlier stage than a new mj_forward would.
  void TakeSnapshot(const mjModel* m, const mjData* d, int64_t elapsed,
                    double* snapshot) const;
  // Returns the elapsed env steps.
  int64_t RestoreSnapshot(const mjModel* m, mjData* d,
                          const double* snapshot) const;
};

static_assert(std::is_trivially_destructible_v<Loop>);

// Puts a simulation at positions and velocities (nq + nv).
void SetPositionAndVelocity(const mjModel* m, mjData* d, const double* row);

// Simulations on a thread pool, with the working memory of each.
class Engine {
 public:
  // Copies the model. Throws std::invalid_argument where the setup is wrong,
  // std::runtime_error where MuJoCo cannot batch the model.
  Engine(uintptr_t model_address, const py::dict& setup, int num_sims,
         int num_threads);
  ~Engine();

  // Runs the function on the simulations `ids`, which ascend. Returns how many
  // raised an error. MuJoCo errors longjmp through the function, so nothing in
  // it may have a destructor.
  int Apply(const std::vector<int>& ids, mjfBatchFunc function,
            const void* call, bool save);

  // Returns the numbers of all simulations.
  std::vector<int> AllIds() const;

  // Admits one call at a time. Throws in a process that was forked from the
  // one that made the engine, as a fork may copy the mutex locked.
  std::unique_lock<std::mutex> Lock() {
    Require(getpid() == process_,
            "the simulations belong to the process from which this one was "
            "forked: make them after the fork, or start processes by spawn");
    return std::unique_lock(mutex_);
  }

  // Returns the working memory of a simulation.
  Loop LoopOf(int sim);

  const Setup& setup() const { return setup_; }
  int num_sims() const { return mjb_nsim(batch_.get()); }
  int num_threads() const { return mjb_nthread(batch_.get()); }
  bool failed(int sim) const { return mjb_status(batch_.get())[sim]; }
  const char* error(int sim) const {
    Require(sim >= 0 && sim < num_sims(), "no such simulation");
    return mjb_error(batch_.get(), sim);
  }

  double* rows() { return mjb_state(batch_.get()); }       // sims x num_state
  double* registers() { return registers_.data(); }        // sims x registers
  double* observations() { return observations_.data(); }  // sims x O

 private:
  Setup setup_;
  std::mutex mutex_;
  std::unique_ptr<mjBatch, void (*)(mjBatch*)> batch_{nullptr, mjb_deleteBatch};
  pid_t process_ = getpid();  // a fork does not copy the batch's threads
  std::vector<double> registers_, observations_;
  std::vector<float> scratch_;  // sims x scratch_size
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ENGINE_H_
