// Python bindings: every shape and dtype is checked here, once per call; the
// GIL is released once, around the simulation.
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "arrays.h"
#include "sampler.h"

namespace trpo_tf {
namespace {

// Checks that every register and element that the code names exists.
void CheckProgram(const Program& p) {
  auto inside = [&](int64_t start, int64_t stride, int64_t n) {
    const int64_t last = start + stride * (n - 1);
    return n >= 1 && start >= 0 && start < p.num_registers && last >= 0 &&
           last < p.num_registers;
  };
  const int num_ops = static_cast<int>(OpNames().size());
  for (const Instruction& in : p.code) {
    const bool reduces = in.op >= kSum;
    const int written = in.op == kWeightedSum ? in.c : reduces ? 1 : in.n;
    bool good = in.op >= 0 && in.op < num_ops && inside(in.dst, 1, written);
    if (in.op == kLoad) {
      bool known = false;
      for (const Field& field : Fields()) {
        known |= field.offset == static_cast<size_t>(in.a);
      }
      good = good && known && in.b >= 0 && in.n >= 1;
    } else if (in.op == kWeightedSum) {
      good = good && inside(in.a, in.sa, in.n) && inside(in.b, 1, in.n * in.c);
    } else {
      good = good && inside(in.a, in.sa, in.n) && inside(in.b, in.sb, in.n) &&
             inside(in.c, in.sc, in.n);
    }
    if (!good) throw py::value_error("malformed task program");
  }
}

Program MakeProgram(const py::dict& fields) {
  Program p;
  auto number = [&](const char* name) { return fields[name].cast<int>(); };
  const int size = Size(fields, "code", 2, 0);
  const auto* code = reinterpret_cast<const Instruction*>(
      Take<int32_t>(fields, "code", {size, 9}));
  p.code.assign(code, code + size);
  p.constants = fields["constants"].cast<std::vector<double>>();
  p.current = fields["current"].cast<std::vector<int>>();
  p.num_registers = number("num_registers");
  p.action = number("action");
  p.prev = number("prev");
  p.num_prev = static_cast<int>(p.current.size());
  p.reset_passes = number("reset_passes");
  p.outputs = number("outputs");
  p.num_outputs = number("num_outputs");
  p.observation_size = number("observation_size");
  p.derived = number("derived");
  CheckProgram(p);
  return p;
}

Setup MakeSetup(const py::dict& fields) {
  Setup setup;
  setup.program = MakeProgram(fields["program"]);
  setup.network.sizes = fields["layer_sizes"].cast<std::vector<int>>();
  setup.network.activation =
      static_cast<Activation>(fields["activation"].cast<int>());
  setup.frame_skip = fields["frame_skip"].cast<int>();
  setup.time_limit = fields["time_limit"].cast<int>();
  setup.clip_actions = fields["clip_actions"].cast<bool>();
  setup.low = fields["low"].cast<std::vector<double>>();
  setup.high = fields["high"].cast<std::vector<double>>();
  setup.scale = fields["scale"].cast<std::vector<double>>();
  setup.offset = fields["offset"].cast<std::vector<double>>();
  setup.num_actions = static_cast<int>(setup.low.size());
  const std::vector<int>& sizes = setup.network.sizes;
  if (sizes.size() < 2 || sizes.front() != setup.program.observation_size ||
      sizes.back() != setup.num_actions) {
    throw py::value_error("layer_sizes do not fit the task");
  }
  return setup;
}

// The policy that a call follows and its normaliser; `policies` of them.
Policy MakePolicy(const Setup& setup, const py::dict& arrays,
                  py::ssize_t policies) {
  const py::ssize_t A = setup.num_actions;
  const py::ssize_t O = setup.program.observation_size;
  const int num_parameters = Size(arrays, "theta", 2, 1);
  const py::ssize_t wanted = setup.network.NumParameters() + A;
  if (num_parameters != wanted) {
    throw py::value_error(
        "theta has " + std::to_string(num_parameters) +
        " parameters; the network and the log deviations have " +
        std::to_string(wanted));
  }
  Policy policy{};
  policy.theta = Take<float>(arrays, "theta", {policies, num_parameters});
  policy.deviations = Take<double>(arrays, "deviations", {policies, A});
  policy.log_normalizer = *Take<double>(arrays, "log_normalizers", {policies});
  policy.mean = Take<float>(arrays, "mean", {O});
  policy.inverse_deviation = Take<float>(arrays, "inverse_deviation", {O});
  policy.observation_clip = arrays["observation_clip"].cast<float>();
  return policy;
}

// Adds the inputs of a closed loop.
void TakeClosedLoop(Sampler& sampler, const py::dict& arrays, RolloutCall& c) {
  const Setup& setup = sampler.engine().setup();
  const py::ssize_t S = sampler.num_slots(), T = c.capacity;
  const py::ssize_t A = setup.num_actions;
  const py::ssize_t policies = Size(arrays, "theta", 2, 0);
  c.num_parameters = Size(arrays, "theta", 2, 1);
  c.policy_index = Take<int32_t>(arrays, "policy_index", {S});
  for (py::ssize_t s = 0; s < S; s++) {
    if (c.policy_index[s] < 0 || c.policy_index[s] >= policies) {
      throw py::value_error("policy_index names a policy that is not there");
    }
  }
  c.policy = MakePolicy(setup, arrays, policies);
  c.log_normalizers = Take<double>(arrays, "log_normalizers", {policies});
  c.noise = Take<double>(arrays, "noise", {S, T, A});
  c.outputs = Take<float>(arrays, "outputs", {S, T, A});
  c.log_probs = Take<float>(arrays, "log_probs", {S, T});
}

// Adds the snapshots that a call is to take.
void TakeSnapshots(Sampler& sampler, const py::dict& arrays, RolloutCall& c) {
  const py::ssize_t S = sampler.num_slots(), T = c.capacity;
  const int rows = Size(arrays, "snapshots", 2, 0);
  c.snapshots = Take<double>(
      arrays, "snapshots",
      {rows, SnapshotSize(sampler.engine().setup().program, c.num_state)});
  c.snapshot_index = Take<int32_t>(arrays, "snapshot_index", {S, T});
  for (py::ssize_t k = 0; k < S * T; k++) {
    if (c.snapshot_index[k] >= rows) {
      throw py::value_error("snapshot_index names a row that is not there");
    }
  }
}

RolloutCall MakeRolloutCall(Sampler& sampler, const py::dict& arrays,
                            bool closed_loop) {
  const Setup& setup = sampler.engine().setup();
  const mjModel* m = sampler.engine().model();
  const py::ssize_t S = sampler.num_slots(), A = setup.num_actions;
  const py::ssize_t O = setup.program.observation_size;
  const py::ssize_t T = Size(arrays, "rewards", 2, 1);
  RolloutCall c{};
  c.capacity = static_cast<int>(T);
  c.num_state = sampler.engine().num_state();
  c.min_steps = arrays.contains("min_steps") ? arrays["min_steps"].cast<int>()
                                             : std::numeric_limits<int>::max();
  c.num_reset_rows = Size(arrays, "reset_rows", 3, 1);
  c.reset_rows = Take<double>(arrays, "reset_rows", {S, -1, m->nq + m->nv});
  c.actions = Take<double>(arrays, "actions", {S, T, A});
  c.rewards = Take<double>(arrays, "rewards", {S, T});
  c.ends = Take<uint8_t>(arrays, "ends", {S, T});
  c.lengths = TakeCounters(arrays, "lengths", S, c.capacity);
  c.failures = Take<int32_t>(arrays, "failures", {S});
  c.timesteps = Take<int32_t>(arrays, "timesteps", {S, T});
  c.observations = Take<float>(arrays, "observations", {S, T, O});
  c.episode_returns = Take<double>(arrays, "episode_returns", {S, T});
  c.max_truncations = Size(arrays, "boundary_steps", 2, 1);
  c.boundary_steps = Take<int32_t>(arrays, "boundary_steps", {S, -1});
  c.boundary_observations =
      Take<float>(arrays, "boundary_observations", {S, c.max_truncations, O});
  c.num_boundaries =
      TakeCounters(arrays, "num_boundaries", S, c.max_truncations);
  c.last_observations = Take<float>(arrays, "last_observations", {S, O});
  c.resets_used = TakeCounters(arrays, "resets_used", S, c.num_reset_rows);
  c.saved_states = Take<double>(arrays, "saved_states", {S, c.num_state});
  c.saved_steps = Take<int32_t>(arrays, "saved_steps", {S});
  c.task_outputs = TakeIfGiven<double>(arrays, "task_outputs",
                                       {S, T, setup.program.num_outputs});
  if (c.max_truncations < c.capacity / setup.time_limit + 2) {
    throw py::value_error("boundary_steps holds too few truncations");
  }
  if (closed_loop) TakeClosedLoop(sampler, arrays, c);
  if (arrays.contains("snapshots")) TakeSnapshots(sampler, arrays, c);
  return c;
}

void Run(Sampler& sampler, const std::vector<int>& ids, const py::dict& arrays,
         bool physics_only) {
  const RolloutCall call = MakeRolloutCall(
      sampler, arrays, !physics_only && arrays.contains("theta"));
  for (size_t i = 0; i < ids.size(); i++) {
    if (ids[i] < 0 || ids[i] >= sampler.num_slots() ||
        (i && ids[i] <= ids[i - 1])) {
      throw py::value_error("ids must be ascending slot numbers");
    }
  }
  py::gil_scoped_release release;
  sampler.Run(call, ids, physics_only);
}

BranchCall MakeBranchCall(Brancher& brancher, const py::dict& arrays,
                          bool physics_only) {
  const Setup& setup = brancher.engine().setup();
  const py::ssize_t A = setup.num_actions;
  const py::ssize_t O = setup.program.observation_size;
  BranchCall c{};
  c.num_state = brancher.engine().num_state();
  c.num_states = Size(arrays, "first_actions", 3, 0);
  c.num_firsts = Size(arrays, "first_actions", 3, 1);
  c.num_trials = Size(arrays, "noise", 4, 1);
  c.horizon = Size(arrays, "noise", 4, 2);
  c.time_limit = arrays["time_limit"].cast<bool>();
  c.gamma = arrays["gamma"].cast<double>();
  const py::ssize_t N = c.num_states, K = c.num_firsts, M = c.num_trials;
  const py::ssize_t L = c.horizon;
  c.snapshots = Take<double>(arrays, "snapshots",
                             {N, SnapshotSize(setup.program, c.num_state)});
  c.first_actions = Take<double>(arrays, "first_actions", {N, K, A});
  c.noise = Take<double>(arrays, "noise", {N, M, L, A});
  if (!physics_only) c.policy = MakePolicy(setup, arrays, 1);
  c.returns = Take<double>(arrays, "returns", {N, K, M});
  c.lengths = Take<int32_t>(arrays, "lengths", {N, K, M});
  c.ends = Take<uint8_t>(arrays, "ends", {N, K, M});
  c.failures = Take<int32_t>(arrays, "failures", {N, K, M});
  c.final_observations =
      Take<float>(arrays, "final_observations", {N, K, M, O});
  c.final_states =
      TakeIfGiven<double>(arrays, "final_states",
                          {N, K, M, SnapshotSize(setup.program, c.num_state)});
  c.observations = TakeIfGiven<float>(arrays, "observations", {N, K, M, L, O});
  c.actions = TakeIfGiven<double>(arrays, "actions", {N, K, M, L, A});
  c.rewards = TakeIfGiven<double>(arrays, "rewards", {N, K, M, L});
  if (!physics_only) return c;
  if (!c.actions) throw py::value_error("missing array actions");
  for (int64_t b = 0; b < c.num_branches(); b++) {
    if (c.lengths[b] < 0 || c.lengths[b] > L) {
      throw py::value_error("lengths must lie in [0, horizon]");
    }
  }
  return c;
}

std::vector<std::pair<int64_t, std::string>> RunBranchesOf(
    Brancher& brancher, const py::dict& arrays, bool physics_only) {
  const BranchCall call = MakeBranchCall(brancher, arrays, physics_only);
  py::gil_scoped_release release;
  return brancher.Run(call, physics_only);
}

// A live view of the sampler's memory, S rows of n elements `apart` apart.
template <typename T>
py::array_t<T> Rows(py::object sampler, T* data, py::ssize_t rows,
                    py::ssize_t n, py::ssize_t apart) {
  const py::ssize_t size = sizeof(T);
  return py::array_t<T>({rows, n}, {apart * size, size}, data, sampler);
}

void CheckMujocoVersion() {
  if (mj_version() == mjVERSION_HEADER) return;
  throw py::import_error(
      "trpo_tf's native sampler was compiled for MuJoCo " +
      std::to_string(mjVERSION_HEADER) + " but version " +
      std::to_string(mj_version()) +
      " is loaded. Rebuild it: pip install --force-reinstall --no-deps .");
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  CheckMujocoVersion();
  PYBIND11_NUMPY_DTYPE(Slot, elapsed, episode, needs_reset, limit,
                       episode_return);
  module.doc() = "Native closed-loop sampler; see trpo_tf/sampling/native/engine.py.";
  module.attr("OPS") = OpNames();
  module.attr("MUJOCO_VERSION") = mjVERSION_HEADER;
  module.attr("ERROR_BIT") = kErrorBit;
  py::dict fields;
  for (const Field& field : Fields()) fields[field.name] = field.offset;
  module.attr("FIELDS") = fields;
  module.def("tanh", [](py::array_t<float, py::array::c_style> x) {
    Tanh(x.mutable_data(), static_cast<int>(x.size()));
  });

  py::class_<Sampler>(module, "Sampler")
      .def(py::init([](uintptr_t model, const py::dict& setup, int num_slots,
                       int num_threads) {
             return std::make_unique<Sampler>(
                 reinterpret_cast<const mjModel*>(model), MakeSetup(setup),
                 num_slots, num_threads);
           }),
           py::arg("model_address"), py::arg("setup"), py::arg("num_slots"),
           py::arg("num_threads"))
      .def("run", &Run, py::arg("ids"), py::arg("arrays"),
           py::arg("physics_only") = false)
      .def("error", [](Sampler& s, int slot) { return s.engine().error(slot); })
      .def_property_readonly(
          "num_threads", [](Sampler& s) { return s.engine().num_threads(); })
      .def_property_readonly(
          "rows",
          [](py::object self) {
            auto& s = self.cast<Sampler&>();
            return Rows(self, s.engine().rows(), s.num_slots(),
                        s.engine().num_state(), s.engine().num_state());
          })
      .def_property_readonly(
          "observations",
          [](py::object self) {
            auto& s = self.cast<Sampler&>();
            const int n = s.engine().setup().program.observation_size;
            return Rows(self, s.engine().observations(), s.num_slots(), n, n);
          })
      .def_property_readonly("previous",
                             [](py::object self) {
                               auto& s = self.cast<Sampler&>();
                               const Program& p = s.engine().setup().program;
                               return Rows(self, s.previous(), s.num_slots(),
                                           p.num_prev, p.num_registers);
                             })
      .def_property_readonly("slots", [](py::object self) {
        auto& s = self.cast<Sampler&>();
        return py::array_t<Slot>({s.num_slots()}, {sizeof(Slot)}, s.slots(),
                                 self);
      });

  py::class_<Brancher>(module, "Brancher")
      .def(
          py::init([](uintptr_t model, const py::dict& setup, int num_threads) {
            return std::make_unique<Brancher>(
                reinterpret_cast<const mjModel*>(model), MakeSetup(setup),
                num_threads);
          }),
          py::arg("model_address"), py::arg("setup"), py::arg("num_threads"))
      .def("run", &RunBranchesOf, py::arg("arrays"),
           py::arg("physics_only") = false)
      .def_property_readonly(
          "num_threads", [](Brancher& b) { return b.engine().num_threads(); });
}

}  // namespace trpo_tf
