#include "engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace trpo_tf {
namespace {

#ifdef __SANITIZE_THREAD__
// MuJoCo's threads are not compiled with the sanitizer, which therefore has to
// be told that a call happens before its simulations and they before its end.
struct Handover {
  mjfBatchFunc function;
  void* call;
  char begin = 0, end = 0;
};

void RunHandedOver(const mjModel* m, mjData* d, int sim, void* handover) {
  auto& h = *static_cast<Handover*>(handover);
  __tsan_acquire(&h.begin);
  h.function(m, d, sim, h.call);
  __tsan_release(&h.end);
}
#endif

// Returns the bits of the warnings that have risen since `before`.
int RaisedWarnings(const mjData* d, const int* before) {
  int bits = 0;
  for (int w = 0; w < mjNWARNING; w++) {
    if (d->warning[w].number > before[w]) bits |= 1 << w;
  }
  return bits;
}

// Returns whether a row of n is finite in float32.
bool FiniteRounded(const double* row, int n) {
  // From 2^128 - 2^103 on a double rounds to an infinite float.
  constexpr double kBound = 0x1.ffffffp127;
  int inside = 0;
  for (int i = 0; i < n; i++) inside += std::fabs(row[i]) < kBound;
  return inside == n;
}

// While a QuietMujoco lives, MuJoCo writes its warnings, which the sampler
// counts itself, neither to the terminal nor to a MUJOCO_LOG.TXT in the working
// directory. Its profiling clock stands still too: the Python package installs
// it, and it takes a tenth or more of a small model's step.
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

// Python's callbacks need the Python object of each model and simulation, and
// those of the engine have none.
void RequireNoCallbacks() {
  Require(!mjcb_passive && !mjcb_control && !mjcb_contactfilter &&
              !mjcb_sensor && !mjcb_act_dyn && !mjcb_act_gain && !mjcb_act_bias,
          "native tasks do not run MuJoCo's callbacks: remove them, for "
          "example by mujoco.set_mjcb_control(None)");
}

}  // namespace

void Setup::Check() const {
  CheckProgram(program, model);
  CheckNetwork(network, num_obs, num_act);
  Require(frame_skip > 0, "frame_skip must be positive");
  Require(time_limit > 0, "time_limit must be positive");
  for (const auto* row : {&low, &high, &scale, &offset}) {
    Require(row->size() == static_cast<size_t>(num_act),
            "low, high, scale and offset need a number for every action");
  }
}

void SetPositionAndVelocity(const mjModel* m, mjData* d, const double* row) {
  mj_resetData(m, d);
  std::memcpy(d->qpos, row, sizeof(double) * m->nq);
  std::memcpy(d->qvel, row + m->nq, sizeof(double) * m->nv);
}

double Loop::Act(const Policies& policies, int index, const float* rounded,
                 const double* noise, float* output, double* action) const {
  const int num_obs = setup.num_obs, num_act = setup.num_act;
  float* x = scratch;
  const float bound = policies.observation_clip;
  for (int i = 0; i < num_obs; i++) {
    const float z =
        (rounded[i] - policies.mean[i]) * policies.inverse_deviation[i];
    x[i] = z < -bound ? -bound : z > bound ? bound : z;
  }
  Forward(setup.network, policies.theta + index * policies.P, x, x + num_obs,
          output);
  const double* deviations = policies.deviations + index * policies.A;
  double log_prob = policies.log_normalizers[index];
  for (int i = 0; i < num_act; i++) {
    action[i] = output[i] + deviations[i] * noise[i];
    log_prob -= 0.5 * noise[i] * noise[i];
  }
  return log_prob;
}

int Loop::Advance(const mjModel* m, mjData* d, const double* action) const {
  double* received = r + setup.program.action;
  for (int i = 0; i < setup.num_act; i++) {
    d->ctrl[i] = received[i] = setup.Control(i, action[i]);
  }
  int warnings[mjNWARNING];
  for (int w = 0; w < mjNWARNING; w++) warnings[w] = d->warning[w].number;
  setup.StepPhysics(m, d);
  Evaluate(setup.program, d, r);
  int failure = RaisedWarnings(d, warnings);
  if (!FiniteRounded(outputs(), setup.num_obs) || !std::isfinite(reward()) ||
      !std::isfinite(terminated())) {
    failure |= 1 << kNonFiniteOutput;
  }
  if (failure) return failure;
  StoreObservation();
  UpdatePrevious();
  return 0;
}

int Loop::Begin(const mjModel* m, mjData* d) const {
  mj_forward(m, d);
  std::fill_n(r + setup.program.action, setup.num_act, 0.0);
  for (int i = 0; i < setup.program.reset_passes; i++) {
    Evaluate(setup.program, d, r);
    UpdatePrevious();
  }
  StoreObservation();
  const bool finite = FiniteRounded(observation, setup.num_obs);
  return finite ? 0 : 1 << kNonFiniteOutput;
}

void Loop::TakeSnapshot(const mjModel* m, const mjData* d, int64_t elapsed,
                        double* snapshot) const {
  const Program& program = setup.program;
  mj_getState(m, d, snapshot, mjSTATE_INTEGRATION);
  snapshot += setup.num_state;
  std::memcpy(snapshot, observation, sizeof(double) * setup.num_obs);
  snapshot += setup.num_obs;
  std::memcpy(snapshot, r + program.prev, sizeof(double) * program.num_prev);
  snapshot[program.num_prev] = static_cast<double>(elapsed);
}

int64_t Loop::RestoreSnapshot(const mjModel* m, mjData* d,
                              const double* snapshot) const {
  const Program& program = setup.program;
  mj_setState(m, d, snapshot, mjSTATE_INTEGRATION);
  snapshot += setup.num_state;
  std::memcpy(observation, snapshot, sizeof(double) * setup.num_obs);
  snapshot += setup.num_obs;
  std::memcpy(r + program.prev, snapshot, sizeof(double) * program.num_prev);
  return static_cast<int64_t>(snapshot[program.num_prev]);
}

Engine::Engine(uintptr_t model_address, const py::dict& setup, int num_sims,
               int num_threads)
    : setup_{Arrays(setup), reinterpret_cast<const mjModel*>(model_address)} {
  setup_.Check();
  Require(num_sims > 0 && num_threads > 0,
          "numbers of slots and threads must be positive");
  mjBatchConfig config;
  mjb_defaultConfig(&config);
  config.nthread = num_threads;
  char error[1024] = "";
  batch_.reset(
      mjb_makeBatch(setup_.model, num_sims, &config, error, sizeof(error)));
  if (!batch_) throw std::runtime_error(error);
  setup_.model = mjb_model(batch_.get());

  const Program& program = setup_.program;
  const size_t n = num_sims;
  observations_.assign(n * setup_.num_obs, 0);
  scratch_.assign(n * setup_.scratch_size, 0);
  registers_.assign(n * program.num_registers, 0);
  for (size_t s = 0; s < n; s++) {
    std::copy(program.constants.begin(), program.constants.end(),
              registers_.begin() + s * program.num_registers);
  }
}

Engine::~Engine() {
  if (getpid() != process_) batch_.release();  // it would wait for its threads
}

int Engine::Apply(const std::vector<int>& ids, mjfBatchFunc function,
                  const void* call, bool save) {
  QuietMujoco quiet;
  const int count = static_cast<int>(ids.size());
  if (!count) return 0;
  RequireNoCallbacks();
#ifdef __SANITIZE_THREAD__
  Handover handover{function, const_cast<void*>(call)};
  __tsan_release(&handover.begin);
  const int errors = mjb_apply(batch_.get(), ids.data(), count, RunHandedOver,
                               &handover, save);
  __tsan_acquire(&handover.end);
  return errors;
#else
  return mjb_apply(batch_.get(), ids.data(), count, function,
                   const_cast<void*>(call), save);
#endif
}

std::vector<int> Engine::AllIds() const {
  std::vector<int> ids(num_sims());
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

Loop Engine::LoopOf(int sim) {
  const size_t s = sim;
  return {setup_, registers_.data() + s * setup_.program.num_registers,
          observations_.data() + s * setup_.num_obs,
          scratch_.data() + s * setup_.scratch_size};
}

}  // namespace trpo_tf
