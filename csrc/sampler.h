// Many slots of one task on MuJoCo's batch engine.
#ifndef TRPO_TF_CSRC_SAMPLER_H_
#define TRPO_TF_CSRC_SAMPLER_H_

#include <mujoco/mjbatch.h>

#include <memory>
#include <string>
#include <vector>

#include "rollout.h"

namespace trpo_tf {

// bit of Call::failures set when MuJoCo raised an error
constexpr int kErrorBit = mjNWARNING + 1;

class Sampler {
 public:
  // Copies the model. Throws std::runtime_error where MuJoCo cannot batch it.
  Sampler(const mjModel* model, Setup setup, int num_slots, int num_threads);

  // Runs the function on the slots `ids` (ascending) of the call.
  void Run(const Call& call, const std::vector<int>& ids,
           mjfBatchFunc function);

  const Setup& setup() const { return setup_; }
  const mjModel* model() const { return mjb_model(batch_.get()); }
  int num_slots() const { return static_cast<int>(slots_.size()); }
  int num_threads() const { return mjb_nthread(batch_.get()); }
  int num_state() const { return mjb_nstate(batch_.get()); }
  const char* error(int slot) const { return mjb_error(batch_.get(), slot); }

  // what a snapshot of every slot consists of
  double* rows() { return mjb_state(batch_.get()); }       // S x num_state
  Slot* slots() { return slots_.data(); }                  // S
  double* observations() { return observations_.data(); }  // S x O
  double* previous() {                                     // S x num_prev,
    return registers_.data() + setup_.program.prev;        // num_registers
  }  // apart

 private:
  struct Delete {
    void operator()(mjBatch* batch) const { mjb_deleteBatch(batch); }
  };

  Setup setup_;
  std::unique_ptr<mjBatch, Delete> batch_;
  std::vector<Slot> slots_;
  std::vector<double> registers_, observations_;
  std::vector<float> scratch_;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_SAMPLER_H_
