#include "branch.h"

#include <algorithm>
#include <cstring>

namespace trpo_tf {
namespace {

constexpr int kLookEvery = 256;  // env steps of a branch
constexpr std::chrono::milliseconds kBetweenLooks{50};

// Chooses the action of step t. The first one is given, the others are drawn
// with the policy's output for `observation`, which is written to `output`.
void ChooseAction(const BranchCall& c, const Loop& loop, int64_t b, int t,
                  const float* observation, float* output, double* action) {
  if (t == 0) {
    const double* first = c.first_actions + b / c.M * c.A;
    std::memcpy(action, first, sizeof(double) * c.A);
    return;
  }
  const int64_t n = b / c.branches_per_state, m = b % c.M;
  const double* noise = c.noise + ((n * c.M + m) * c.L + t) * c.A;
  loop.Act(c.policies, 0, observation, noise, output, action);
}

void RunBranch(BranchCall& c, const Loop& loop, const mjModel* m, mjData* d,
               int64_t b, double* action) {
  const double* start = c.snapshots + b / c.branches_per_state * c.D;
  int64_t elapsed = loop.RestoreSnapshot(m, d, start);
  float* output = loop.scratch + loop.setup.scratch_size - c.A;
  float* observation = output - c.O;
  double discount = 1;
  c.returns[b] = 0;
  c.ends[b] = c.failures[b] = c.lengths[b] = 0;
  for (int t = 0; t < c.L && !c.ends[b]; t++) {
    if (t % kLookEvery == kLookEvery - 1 && c.Stopped()) return;
    const int64_t step = b * c.L + t;
    if (c.steps) {
      observation = c.observations + step * c.O;
      action = c.actions + step * c.A;
      output = c.outputs + step * c.A;
    }
    if (c.steps || t > 0) loop.Observe(observation);
    ChooseAction(c, loop, b, t, observation, output, action);
    c.failures[b] = loop.Advance(m, d, action);
    if (c.failures[b]) {
      c.ends[b] = kDiverged;
      break;
    }
    if (c.steps) c.rewards[step] = loop.reward();
    c.returns[b] += discount * loop.reward();
    discount *= c.gamma;
    c.lengths[b] = t + 1;
    c.ends[b] = loop.EndAfter(++elapsed, c.limit);
  }
  loop.Observe(c.final_observations + b * c.O);
  if (!c.final_states || c.failures[b]) return;
  loop.TakeSnapshot(m, d, elapsed, c.final_states + b * c.D);
}

// Runs branches on simulation `sim` until none is left.
void RunOn(const mjModel* m, mjData* d, int sim, void* call) {
  auto& c = *static_cast<BranchCall*>(call);
  const Loop loop = c.engine.LoopOf(sim);
  double* action = &c.action[static_cast<size_t>(sim) * c.A];
  while (!c.Stopped() && (c.running[sim] = c.next++) < c.num_branches) {
    RunBranch(c, loop, m, d, c.running[sim], action);
  }
}

}  // namespace

bool BranchCall::Stopped() {
  if (std::this_thread::get_id() == main_thread) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_look) {
      py::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals()) stop = true;
      next_look = now + kBetweenLooks;
    }
  }
  return stop;
}

void BranchCall::CheckElapsed() const {
  for (int64_t n = 1; n <= N; n++) {
    const double elapsed = snapshots[n * D - 1];
    Require(elapsed >= 0 && elapsed <= std::numeric_limits<int32_t>::max(),
            "a snapshot has a wrong number of elapsed env steps");
  }
}

std::vector<std::pair<int64_t, std::string>> RunBranches(BranchCall& call) {
  call.CheckElapsed();
  Engine& engine = call.engine;
  const auto lock = engine.Lock();
  std::vector<std::pair<int64_t, std::string>> errors;
  // A lone branch runs on the first simulation, whose registers it leaves.
  std::vector<int> ids = engine.AllIds();
  ids.resize(std::min<int64_t>(ids.size(), call.num_branches));
  // A simulation that meets an error stops. It begins anew when the others have
  // run out of branches.
  while (engine.Apply(ids, RunOn, &call, false)) {
    for (int id : ids) {
      if (!engine.failed(id)) continue;
      const int64_t branch = call.running[id];
      call.failures[branch] |= 1 << kErrorBit;
      call.ends[branch] = kDiverged;
      errors.emplace_back(branch, engine.error(id));
    }
  }
  return errors;
}

}  // namespace trpo_tf
