// This file repeats the physics of recorded runs, which limits the speed of the
// samplers. Start rows, actions, lengths, substeps, resets, derived quantities,
// threads and scheduling are the same; there is no policy, no task, no record
// and no check for divergence.
#include <atomic>
#include <stdexcept>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "rollout.h"

namespace trpo_tf {
namespace {

void Advance(const Setup& setup, const mjModel* m, mjData* d,
             const double* action) {
  for (int i = 0; i < setup.num_act; i++) {
    d->ctrl[i] = setup.Control(i, action[i]);
  }
  setup.StepPhysics(m, d);
}

// Runs the function on all simulations, whose rows stay as they were.
void ApplyToAll(Engine& engine, mjfBatchFunc function, void* replay) {
  py::gil_scoped_release release;
  const auto lock = engine.Lock();
  if (!engine.Apply(engine.AllIds(), function, replay, false)) return;
  throw std::runtime_error("MuJoCo raised an error in recorded steps");
}

struct SlotReplay {
  Arrays& in;
  Sampler& sampler;
  const Setup& setup = sampler.setup();
  int S = sampler.num_sims(), A = setup.num_act;
  int T = in.Size("actions", 3, 1);
  int R = in.Size("reset_rows", 3, 1);
  // those that the recorded run used
  const double* reset_rows =
      in.Take<const double>("reset_rows", {S, R, setup.num_reset});
  const double* actions = in.Take<const double>("actions", {S, T, A});
  const uint8_t* ends = in.Take<const uint8_t>("ends", {S, T});
  const int32_t* lengths = in.TakeIndices<const int32_t>("lengths", {S}, 0, T);

  // Throws where a slot needs more reset rows than there are.
  void CheckResets() const {
    for (size_t s = 0; s < static_cast<size_t>(S); s++) {
      int resets = lengths[s] && sampler.slots[s].needs_reset;
      for (int t = 0; t + 1 < lengths[s]; t++) resets += ends[s * T + t] != 0;
      Require(resets <= R, "reset_rows holds too few rows");
    }
  }
};

void ReplaySlot(const mjModel* m, mjData* d, int sim, void* replay) {
  const auto& w = *static_cast<const SlotReplay*>(replay);
  const size_t s = sim;
  const double* row = w.reset_rows + s * w.R * w.setup.num_reset;
  bool needs_reset = w.sampler.slots[s].needs_reset;
  for (int t = 0; t < w.lengths[s]; t++) {
    const size_t step = s * w.T + t;
    if (needs_reset) {
      SetPositionAndVelocity(m, d, row);
      mj_forward(m, d);
      row += w.setup.num_reset;
    }
    Advance(w.setup, m, d, w.actions + step * w.A);
    needs_reset = w.ends[step] != 0;
  }
}

void ReplaySlots(Sampler& sampler, const py::dict& arrays) {
  Arrays in(arrays);
  SlotReplay replay{in, sampler};
  replay.CheckResets();
  ApplyToAll(sampler, ReplaySlot, &replay);
}

struct BranchReplay {
  Arrays& in;
  const Setup& setup;
  int A = setup.num_act, D = setup.snapshot_size;
  int N = in.Size("actions", 5, 0), K = in.Size("actions", 5, 1);
  int M = in.Size("actions", 5, 2), L = in.Size("actions", 5, 3);
  int64_t branches_per_state = int64_t{K} * M;
  const double* snapshots = in.Take<const double>("snapshots", {N, D});
  const double* actions = in.Take<const double>("actions", {N, K, M, L, A});
  const int32_t* lengths =
      in.TakeIndices<const int32_t>("lengths", {N, K, M}, 0, L);
  std::atomic<int64_t> next{0};  // branch to begin
};

void ReplayBranch(const mjModel* m, mjData* d, int, void* replay) {
  auto& w = *static_cast<BranchReplay*>(replay);
  for (int64_t b; (b = w.next++) < w.N * w.branches_per_state;) {
    const double* row = w.snapshots + b / w.branches_per_state * w.D;
    mj_setState(m, d, row, mjSTATE_INTEGRATION);
    for (int t = 0; t < w.lengths[b]; t++) {
      Advance(w.setup, m, d, w.actions + (b * w.L + t) * w.A);
    }
  }
}

void ReplayBranches(Engine& engine, const py::dict& arrays) {
  Arrays in(arrays);
  BranchReplay replay{in, engine.setup()};
  ApplyToAll(engine, ReplayBranch, &replay);
}

}  // namespace

void DefineBench(py::class_<Sampler>& sampler, py::class_<Engine>& brancher) {
  sampler.def("replay_physics", &ReplaySlots, py::arg("arrays"));
  brancher.def("replay_physics", &ReplayBranches, py::arg("arrays"));
}

}  // namespace trpo_tf
