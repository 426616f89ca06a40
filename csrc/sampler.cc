#include "sampler.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace trpo_tf {

namespace {

// Keeps MuJoCo's warnings, which the sampler counts itself, off the terminal
// and out of a MUJOCO_LOG.TXT in the working directory.
class QuietLog {
 public:
  QuietLog() : saved_(mju_getLogConfig()) {
    mjLogConfig quiet = saved_;
    quiet.logto_console = quiet.logto_file = 0;
    mju_setLogConfig(quiet);
  }
  ~QuietLog() { mju_setLogConfig(saved_); }

 private:
  mjLogConfig saved_;
};

}  // namespace

Sampler::Sampler(const mjModel* model, Setup setup, int num_slots,
                 int num_threads)
    : setup_(std::move(setup)) {
  mjBatchConfig config;
  mjb_defaultConfig(&config);
  config.nthread = num_threads;
  char error[1024] = "";
  batch_.reset(mjb_makeBatch(model, num_slots, &config, error, sizeof(error)));
  if (!batch_) throw std::runtime_error(error);

  const Program& program = setup_.program;
  slots_.assign(num_slots, Slot{0, 0, 1, setup_.time_limit, 0});
  observations_.assign(
      static_cast<size_t>(num_slots) * program.observation_size, 0);
  scratch_.assign(static_cast<size_t>(num_slots) * ScratchSize(setup_), 0);
  registers_.assign(static_cast<size_t>(num_slots) * program.num_registers, 0);
  for (int s = 0; s < num_slots; s++) {
    std::copy(
        program.constants.begin(), program.constants.end(),
        registers_.begin() + static_cast<size_t>(s) * program.num_registers);
  }
}

void Sampler::Run(const Call& call, const std::vector<int>& ids,
                  mjfBatchFunc function) {
  QuietLog quiet;
  Worker worker{&setup_,
                &call,
                slots_.data(),
                registers_.data(),
                observations_.data(),
                scratch_.data()};
  const int count = static_cast<int>(ids.size());
  const int save = function == RunSlot;
  if (!count ||
      !mjb_apply(batch_.get(), ids.data(), count, function, &worker, save)) {
    return;
  }
  for (int id : ids) {
    if (!mjb_status(batch_.get())[id]) continue;
    call.failures[id] |= 1 << kErrorBit;
    slots_[id].needs_reset = 1;
  }
}

}  // namespace trpo_tf
