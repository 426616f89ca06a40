#include "sampler.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <stdexcept>

namespace trpo_tf {

namespace {

// While one lives, MuJoCo's warnings, which the sampler counts itself, stay off
// the terminal and out of a MUJOCO_LOG.TXT in the working directory; and its
// profiling clock stands still, which the Python package installs and which
// takes a tenth or more of a small model's step.
class QuietMujoco {
 public:
  QuietMujoco() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (users++) return;
    log = mju_getLogConfig();
    clock = mjcb_time;
    mjLogConfig quiet = log;
    quiet.logto_console = quiet.logto_file = 0;
    mju_setLogConfig(quiet);
    mjcb_time = nullptr;
  }
  ~QuietMujoco() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (--users) return;
    mju_setLogConfig(log);
    mjcb_time = clock;
  }

 private:
  static inline std::mutex mutex;
  static inline int users = 0;
  static inline mjLogConfig log;
  static inline mjfTime clock = nullptr;
};

}  // namespace

Engine::Engine(const mjModel* model, Setup setup, int num_sims, int num_threads)
    : setup_(std::move(setup)) {
  mjBatchConfig config;
  mjb_defaultConfig(&config);
  config.nthread = num_threads;
  char error[1024] = "";
  batch_.reset(mjb_makeBatch(model, num_sims, &config, error, sizeof(error)));
  if (!batch_) throw std::runtime_error(error);

  const Program& program = setup_.program;
  const size_t n = num_sims;
  observations_.assign(n * program.observation_size, 0);
  scratch_.assign(n * ScratchSize(setup_), 0);
  registers_.assign(n * program.num_registers, 0);
  for (size_t s = 0; s < n; s++) {
    std::copy(program.constants.begin(), program.constants.end(),
              registers_.begin() + s * program.num_registers);
  }
}

int Engine::Apply(const std::vector<int>& ids, mjfBatchFunc function,
                  void* worker, bool save) {
  QuietMujoco quiet;
  const int count = static_cast<int>(ids.size());
  if (!count) return 0;
  return mjb_apply(batch_.get(), ids.data(), count, function, worker, save);
}

Sampler::Sampler(const mjModel* model, Setup setup, int num_slots,
                 int num_threads)
    : engine_(model, std::move(setup), num_slots, num_threads) {
  slots_.assign(num_slots, Slot{0, 0, 1, engine_.setup().time_limit, 0});
}

void Sampler::Run(const RolloutCall& call, const std::vector<int>& ids,
                  bool physics_only) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RolloutWorker worker{&engine_.setup(),       &call,
                       slots_.data(),          engine_.registers(),
                       engine_.observations(), engine_.scratch()};
  if (!engine_.Apply(ids, physics_only ? RunSlotPhysics : RunSlot, &worker,
                     !physics_only)) {
    return;
  }
  for (int id : ids) {
    if (!engine_.failed(id)) continue;
    call.failures[id] |= 1 << kErrorBit;
    slots_[id].needs_reset = 1;
  }
}

Brancher::Brancher(const mjModel* model, Setup setup, int num_threads)
    : engine_(model, std::move(setup), num_threads, num_threads) {
  actions_.assign(
      static_cast<size_t>(num_threads) * engine_.setup().num_actions, 0);
  running_.assign(num_threads, 0);
}

std::vector<std::pair<int64_t, std::string>> Brancher::Run(
    const BranchCall& call, bool physics_only) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::atomic<int64_t> next{0};
  BranchWorker worker{&engine_.setup(),
                      &call,
                      &next,
                      running_.data(),
                      engine_.registers(),
                      engine_.observations(),
                      actions_.data(),
                      engine_.scratch()};
  std::vector<int> ids(engine_.num_sims());
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<std::pair<int64_t, std::string>> errors;
  const mjfBatchFunc function = physics_only ? RunBranchPhysics : RunBranches;
  // A worker that meets an error stops; it begins anew when the others have
  // run out of branches.
  while (engine_.Apply(ids, function, &worker, false)) {
    for (int id : ids) {
      if (!engine_.failed(id)) continue;
      const int64_t branch = running_[id];
      call.failures[branch] |= 1 << kErrorBit;
      call.ends[branch] = kDiverged;
      errors.emplace_back(branch, engine_.error(id));
    }
  }
  return errors;
}

}  // namespace trpo_tf
