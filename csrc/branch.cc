#include "branch.h"

#include <cstring>

namespace trpo_tf {

namespace {

Loop MakeLoop(const BranchWorker& w, int sim) {
  const Program& p = w.setup->program;
  const size_t s = sim;
  return Loop(*w.setup, w.registers + s * p.num_registers,
              w.observations + s * p.observation_size,
              w.scratch + s * ScratchSize(*w.setup));
}

// which state branch b starts from
int64_t StateOf(const BranchCall& c, int64_t b) {
  return b / (static_cast<int64_t>(c.num_firsts) * c.num_trials);
}

const double* Start(const BranchCall& c, const Loop& loop, int64_t b) {
  return c.snapshots + StateOf(c, b) * SnapshotSize(loop.program, c.num_state);
}

// The action of step t, given for the first and drawn for the others.
void ChooseAction(const BranchCall& c, const Loop& loop, int64_t b, int t,
                  double* action) {
  const int A = loop.num_act;
  if (t == 0) {
    const double* first = c.first_actions + b / c.num_trials * A;
    std::memcpy(action, first, sizeof(double) * A);
    return;
  }
  const int64_t n = StateOf(c, b), m = b % c.num_trials;
  const double* noise = c.noise + ((n * c.num_trials + m) * c.horizon + t) * A;
  float* output = loop.scratch + ScratchSize(loop.setup) - A;
  float* rounded = output - loop.num_obs;
  loop.Observe(rounded);
  loop.Act(c.policy, rounded, noise, output, action);
}

uint8_t EndOf(const BranchCall& c, const Loop& loop, int64_t elapsed) {
  uint8_t end = loop.terminated() ? kTerminated : 0;
  if (c.time_limit && elapsed >= loop.setup.time_limit) end |= kTruncated;
  return end;
}

void RunBranch(const BranchCall& c, const Loop& loop, const mjModel* m,
               mjData* d, int64_t b, double* action) {
  int64_t elapsed = RestoreSnapshot(loop, m, d, c.num_state, Start(c, loop, b));
  double discount = 1;
  c.returns[b] = 0;
  c.ends[b] = c.failures[b] = c.lengths[b] = 0;
  for (int t = 0; t < c.horizon && !c.ends[b]; t++) {
    const int64_t step = b * c.horizon + t;
    if (c.observations) loop.Observe(c.observations + step * loop.num_obs);
    if (c.actions) action = c.actions + step * loop.num_act;
    ChooseAction(c, loop, b, t, action);
    loop.Control(d, action);
    c.failures[b] = loop.Advance(m, d);
    if (c.failures[b]) {
      c.ends[b] = kDiverged;
      break;
    }
    loop.StoreObservation();
    loop.UpdatePrevious();
    if (c.rewards) c.rewards[step] = loop.reward();
    c.returns[b] += discount * loop.reward();
    discount *= c.gamma;
    c.lengths[b] = t + 1;
    c.ends[b] = EndOf(c, loop, ++elapsed);
  }
  loop.Observe(c.final_observations + b * loop.num_obs);
  if (!c.final_states || c.failures[b]) return;
  TakeSnapshot(loop, m, d, c.num_state, elapsed,
               c.final_states + b * SnapshotSize(loop.program, c.num_state));
}

}  // namespace

void RunBranches(const mjModel* m, mjData* d, int sim, void* worker) {
  const BranchWorker& w = *static_cast<BranchWorker*>(worker);
  const BranchCall& c = *w.call;
  const Loop loop = MakeLoop(w, sim);
  double* action = w.actions + static_cast<size_t>(sim) * loop.num_act;
  while ((w.running[sim] = (*w.next)++) < c.num_branches()) {
    RunBranch(c, loop, m, d, w.running[sim], action);
  }
}

void RunBranchPhysics(const mjModel* m, mjData* d, int sim, void* worker) {
  const BranchWorker& w = *static_cast<BranchWorker*>(worker);
  const BranchCall& c = *w.call;
  const Loop loop = MakeLoop(w, sim);
  while ((w.running[sim] = (*w.next)++) < c.num_branches()) {
    const int64_t b = w.running[sim];
    mj_setState(m, d, Start(c, loop, b), mjSTATE_INTEGRATION);
    for (int t = 0; t < c.lengths[b]; t++) {
      loop.AdvancePhysics(m, d, c.actions + (b * c.horizon + t) * loop.num_act);
    }
  }
}

}  // namespace trpo_tf
