// The extension trpo_tf/sampling/_native releases the GIL once a call, around
// the simulation.
#include <cstdint>
#include <thread>
#include <vector>

#include "arrays.h"
#include "branch.h"
#include "check.h"
#include "rollout.h"

namespace trpo_tf {

// Adds a method replay_physics to both classes; see bench.cc.
void DefineBench(py::class_<Sampler>& sampler, py::class_<Engine>& brancher);

namespace {

void RunSampler(Sampler& sampler, const std::vector<int>& ids,
                const py::dict& arrays) {
  Arrays in(arrays);
  const RolloutCall call{in, sampler};
  py::gil_scoped_release release;
  RunSlots(call, ids);
}

bool OnMainThread() {
  const auto main = py::module_::import("threading").attr("main_thread")();
  return main.attr("ident").cast<uint64_t>() == PyThread_get_thread_ident();
}

auto RunBrancher(Engine& brancher, const py::dict& arrays) {
  Arrays in(arrays);
  BranchCall call{in, brancher};
  if (OnMainThread()) call.main_thread = std::this_thread::get_id();
  const auto errors = [&call] {
    py::gil_scoped_release release;
    return RunBranches(call);
  }();
  if (call.stop) throw py::error_already_set();
  return errors;
}

// Returns a live view of n doubles of each simulation, `apart` apart.
py::array View(const py::object& self, double* data, py::ssize_t n,
               py::ssize_t apart) {
  const py::ssize_t sims = self.cast<Sampler&>().num_sims();
  const py::ssize_t size = sizeof(double);
  return py::array_t<double>({sims, n}, {apart * size, size}, data, self);
}

py::array Rows(const py::object& self) {
  auto& sampler = self.cast<Sampler&>();
  const int n = sampler.setup().num_state;
  return View(self, sampler.rows(), n, n);
}

py::array Observations(const py::object& self) {
  auto& sampler = self.cast<Sampler&>();
  const int n = sampler.setup().num_obs;
  return View(self, sampler.observations(), n, n);
}

py::array Previous(const py::object& self) {
  auto& sampler = self.cast<Sampler&>();
  const Program& p = sampler.setup().program;
  return View(self, sampler.registers() + p.prev, p.num_prev, p.num_registers);
}

// Returns a copy of a simulation's registers.
template <typename Simulations>
py::array_t<double> Registers(Simulations& engine, int sim) {
  Require(sim >= 0 && sim < engine.num_sims(), "no such simulation");
  const py::ssize_t n = engine.setup().program.num_registers;
  return py::array_t<double>(n, engine.registers() + sim * n);
}

py::array Slots(const py::object& self) {
  std::vector<Slot>& slots = self.cast<Sampler&>().slots;
  return py::array_t<Slot>(slots.size(), slots.data(), self);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  using py::arg;
  if (mj_version() != mjVERSION_HEADER) {
    throw py::import_error("it was compiled for another version of MuJoCo");
  }
  PYBIND11_NUMPY_DTYPE(Slot, elapsed, episode, needs_reset, limit,
                       episode_return);
  module.doc() = "Native samplers; see trpo_tf/sampling/native/engine.py.";
  module.attr("OPS") = OpNames();
  py::dict fields;
  for (const Field& field : Fields()) fields[field.name] = field.offset;
  module.attr("FIELDS") = fields;
  module.def("tanh", [](const py::array& x) {
    Tanh(Data<float>(x, "x", {x.size()}), static_cast<int>(x.size()));
  });

  py::class_<Sampler> sampler(module, "Sampler");
  sampler
      .def(py::init<uintptr_t, const py::dict&, int, int>(),
           arg("model_address"), arg("setup"), arg("num_slots"),
           arg("num_threads"))
      .def("run", &RunSampler, arg("ids"), arg("arrays"))
      .def("error", &Sampler::error, arg("slot"))
      .def("registers", &Registers<Sampler>, arg("slot"))
      .def_property_readonly("num_threads", &Sampler::num_threads)
      .def_property_readonly("rows", &Rows)
      .def_property_readonly("observations", &Observations)
      .def_property_readonly("previous", &Previous)
      .def_property_readonly("slots", &Slots);

  py::class_<Engine> brancher(module, "Brancher");
  brancher
      .def(py::init([](uintptr_t model, const py::dict& setup, int threads) {
             return new Engine(model, setup, threads, threads);
           }),
           arg("model_address"), arg("setup"), arg("num_threads"))
      .def("run", &RunBrancher, arg("arrays"))
      .def("registers", &Registers<Engine>, arg("simulation"))
      .def_property_readonly("num_threads", &Engine::num_threads);
  DefineBench(sampler, brancher);
}

}  // namespace trpo_tf
