// The extension trpo_tf/sampling/_atari does what a process has to do between
// the steps of an Atari emulator. It needs neither MuJoCo nor TensorFlow, so
// that the processes stay small.
#include <cstdint>
#include <utility>
#include <vector>

#include "actor.h"
#include "arrays.h"
#include "atari_screen.h"

namespace trpo_tf {
namespace {

using Pair = std::pair<int, int>;

Screens MakeScreens(const Pair& screen, const Pair& rows, const Pair& frame) {
  return Screens({screen.first, screen.second, rows.first, rows.second,
                  frame.first, frame.second});
}

// Returns a view of a screen, of which `self` is the owner.
py::array Now(const py::object& self, int place) {
  auto& screens = self.cast<Screens&>();
  return py::array_t<uint8_t>({screens.shape().height, screens.shape().width},
                              screens.Now(place), self);
}

void Learn(Screens& screens, int place, const py::object& grey) {
  const Screens::Shape& shape = screens.shape();
  screens.Learn(place,
                Data<const uint8_t>(grey, "grey", {shape.height, shape.width}));
}

void Frame(Screens& screens, int count, const py::object& out) {
  const Screens::Shape& shape = screens.shape();
  screens.Frame(count, Data<uint8_t>(out, "out", {shape.rows, shape.columns}));
}

}  // namespace

PYBIND11_MODULE(_atari, module) {
  using py::arg;
  py::class_<Screens>(module, "Screens")
      .def(py::init(&MakeScreens), arg("screen"), arg("rows"), arg("frame"))
      .def("now", &Now, arg("place"))
      .def("see", &Screens::See, arg("place"))
      .def("learn", &Learn, arg("place"), arg("grey"))
      .def("frame", &Frame, arg("count"), arg("out"));
  py::class_<Actor>(module, "Actor")
      .def(py::init<std::pair<int, int>, const std::vector<int>&,
                    const std::vector<int>&, int, const std::vector<int>&>(),
           arg("frame"), arg("filters"), arg("hidden_sizes"), arg("activation"),
           arg("factors"))
      .def("set_parameters", &Actor::SetParameters, arg("theta"))
      .def("stack", &Actor::Stack)
      .def("begin", &Actor::Begin, arg("stack"), arg("frames"))
      .def("begin_game", &Actor::BeginGame, arg("frame"))
      .def("observe", &Actor::Observe, arg("screens"), arg("count"))
      .def("act", &Actor::Act, arg("uniforms"))
      .def("rows", &Actor::Rows)
      .def("frames", &Actor::Frames)
      .def("actions", &Actor::Actions);
}

}  // namespace trpo_tf
