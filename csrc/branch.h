// Branches of the vine (section 5.2) try K given first actions from every
// snapshot. The policy follows each of them under M noise sequences that the K
// actions share.
#ifndef TRPO_TF_CSRC_BRANCH_H_
#define TRPO_TF_CSRC_BRANCH_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine.h"

namespace trpo_tf {

// A BranchCall holds inputs and records of one call, arrays of the caller.
struct BranchCall {
  Arrays& in;
  Engine& engine;
  const Setup& setup = engine.setup();
  int O = setup.num_obs, A = setup.num_act, D = setup.snapshot_size;
  int N = in.Size("first_actions", 3, 0);  // states
  int K = in.Size("first_actions", 3, 1);  // first actions of each
  int M = in.Size("noise", 4, 1);          // noise sequences
  int L = in.Size("noise", 4, 2);          // most env steps of a branch
  int64_t branches_per_state = int64_t{K} * M;
  int64_t num_branches = N * branches_per_state;
  // env steps of an episode, from its start, after which a branch is truncated
  int64_t limit = in.Get<bool>("time_limit")
                      ? setup.time_limit
                      : std::numeric_limits<int64_t>::max();
  double gamma = in.Get<double>("gamma");

  Policies policies{in, setup, 1};
  const double* snapshots = in.Take<const double>("snapshots", {N, D});
  const double* first_actions =
      in.Take<const double>("first_actions", {N, K, A});
  // The noise of the first step is not used.
  const double* noise = in.Take<const double>("noise", {N, M, L, A});

  double* returns = in.Take<double>("returns", {N, K, M});  // discounted
  int32_t* lengths = in.Take<int32_t>("lengths", {N, K, M});
  uint8_t* ends = in.Take<uint8_t>("ends", {N, K, M});  // 0: alive at the end
  // warning bits of a divergence, or 0
  int32_t* failures = in.Take<int32_t>("failures", {N, K, M});
  // after the last step
  float* final_observations =
      in.Take<float>("final_observations", {N, K, M, O});
  double* final_states =
      in.Take<double>("final_states", {N, K, M, D}, in.Has("final_states"));
  // the steps, if wanted
  bool steps = in.Has("rewards");
  float* observations = in.Take<float>("observations", {N, K, M, L, O}, steps);
  double* actions = in.Take<double>("actions", {N, K, M, L, A}, steps);
  // of the policy; the first action is given, so its step has none
  float* outputs = in.Take<float>("outputs", {N, K, M, L, A}, steps);
  double* rewards = in.Take<double>("rewards", {N, K, M, L}, steps);

  // Throws where a snapshot's elapsed env steps are no count.
  void CheckElapsed() const;

  // Returns whether the call is to end early. On Python's main thread, this
  // asks every now and then whether a signal, as of Ctrl-C, raises an
  // exception. Other threads handle no signals, and may outlive the
  // interpreter.
  bool Stopped();
  std::atomic<bool> stop{false};
  std::thread::id main_thread;  // if it made the call, else none
  std::chrono::steady_clock::time_point next_look{};

  std::atomic<int64_t> next{0};  // branch to begin
  // of each simulation, the branch that it is at, and its action
  std::vector<int64_t> running = std::vector<int64_t>(engine.num_sims());
  std::vector<double> action = std::vector<double>(running.size() * A);
};

// Runs all branches on an engine of one simulation a thread. Which simulation
// runs which branch does not matter: a branch is a function of its snapshot,
// first action, noise and policy. Returns what MuJoCo said of those that raised
// an error, (branch, text), in no order. If it ends by `stop`, a Python
// exception is set, and the records are not complete.
std::vector<std::pair<int64_t, std::string>> RunBranches(BranchCall& call);

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_BRANCH_H_
