// Slots and branches of one task on MuJoCo's batch engine.
#ifndef TRPO_TF_CSRC_SAMPLER_H_
#define TRPO_TF_CSRC_SAMPLER_H_

#include <mujoco/mjbatch.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "branch.h"
#include "rollout.h"

namespace trpo_tf {

// Simulations on a thread pool, with the working memory of each.
class Engine {
 public:
  // Copies the model. Throws std::runtime_error where MuJoCo cannot batch it.
  Engine(const mjModel* model, Setup setup, int num_sims, int num_threads);

  // Runs the function on the simulations `ids` (ascending); returns how many
  // raised an error.
  int Apply(const std::vector<int>& ids, mjfBatchFunc function, void* worker,
            bool save);

  const Setup& setup() const { return setup_; }
  const mjModel* model() const { return mjb_model(batch_.get()); }
  int num_sims() const { return mjb_nsim(batch_.get()); }
  int num_threads() const { return mjb_nthread(batch_.get()); }
  int num_state() const { return mjb_nstate(batch_.get()); }
  bool failed(int sim) const { return mjb_status(batch_.get())[sim]; }
  const char* error(int sim) const { return mjb_error(batch_.get(), sim); }

  double* rows() { return mjb_state(batch_.get()); }       // sims x num_state
  double* registers() { return registers_.data(); }        // sims x registers
  double* observations() { return observations_.data(); }  // sims x O
  float* scratch() { return scratch_.data(); }             // sims x ScratchSize

 private:
  struct Delete {
    void operator()(mjBatch* batch) const { mjb_deleteBatch(batch); }
  };

  Setup setup_;
  std::unique_ptr<mjBatch, Delete> batch_;
  std::vector<double> registers_, observations_;
  std::vector<float> scratch_;
};

// S slots that keep their state from call to call.
class Sampler {
 public:
  Sampler(const mjModel* model, Setup setup, int num_slots, int num_threads);

  // Runs RunSlot or RunSlotPhysics on the slots `ids` (ascending).
  void Run(const RolloutCall& call, const std::vector<int>& ids,
           bool physics_only);

  Engine& engine() { return engine_; }
  int num_slots() const { return static_cast<int>(slots_.size()); }

  // what a slot consists of, beside its row and its observation
  Slot* slots() { return slots_.data(); }  // S
  double* previous() {                     // S x num_prev, num_registers apart
    return engine_.registers() + engine_.setup().program.prev;
  }

 private:
  Engine engine_;
  std::mutex mutex_;  // one call at a time
  std::vector<Slot> slots_;
};

// One simulation a thread, which run any number of branches.
class Brancher {
 public:
  Brancher(const mjModel* model, Setup setup, int num_threads);

  // Runs all branches, or their physics alone; returns what MuJoCo said of
  // those that raised an error, (branch, text), in no order.
  std::vector<std::pair<int64_t, std::string>> Run(const BranchCall& call,
                                                   bool physics_only);

  Engine& engine() { return engine_; }

 private:
  Engine engine_;
  std::mutex mutex_;              // one call at a time
  std::vector<double> actions_;   // workers x A
  std::vector<int64_t> running_;  // workers
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_SAMPLER_H_
