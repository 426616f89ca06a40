// The extension trpo_tf/sampling/_atari: what a process does between the steps
// of an Atari emulator. It needs neither MuJoCo nor TensorFlow, so that the
// processes stay small.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "actor.h"
#include "atari_screen.h"

namespace trpo_tf {
namespace {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

void Check(bool fits, const char* message) {
  if (!fits) throw py::value_error(message);
}

using Shape = std::pair<int, int>;

bool HasShape(const py::array& array, const Shape& shape) {
  return array.ndim() == 2 && array.shape(0) == shape.first &&
         array.shape(1) == shape.second;
}

class CheckedScreens {
 public:
  CheckedScreens(const Shape& screen, const Shape& rows, const Shape& frame)
      : screen_(screen),
        frame_(frame),
        screens_(Checked({screen.first, screen.second, rows.first, rows.second,
                          frame.first, frame.second})) {}

  // A view of a screen, of which `self` is the owner.
  static py::array Now(const py::object& self, int place) {
    auto& screens = self.cast<CheckedScreens&>();
    CheckPlace(place);
    return Array<uint8_t>({screens.screen_.first, screens.screen_.second},
                          screens.screens_.Now(place), self);
  }

  bool See(int place) {
    CheckPlace(place);
    return screens_.See(place);
  }

  void Learn(int place, const Array<uint8_t>& grey) {
    CheckPlace(place);
    Check(HasShape(grey, screen_), "learn: a screen of another size");
    screens_.Learn(place, grey.data());
  }

  void Frame(int count, Array<uint8_t>& out) {
    CheckPlace(count - 1);
    Check(HasShape(out, frame_), "frame: an array of another size");
    screens_.Frame(count, out.mutable_data());
  }

 private:
  static void CheckPlace(int place) {
    Check(place == 0 || place == 1, "there are two screens");
  }

  static Screens Checked(const Screens::Shape& shape) {
    Check(Screens::Fits(shape),
          "Screens: cannot average this screen over these areas");
    return Screens(shape);
  }

  Shape screen_, frame_;
  Screens screens_;
};

class CheckedActor {
 public:
  CheckedActor(const Shape& frame, const std::vector<int>& filters,
               const std::vector<int>& hidden_sizes, int activation,
               const std::vector<int>& factors)
      : frame_(frame),
        actor_(frame.first, frame.second, filters, hidden_sizes,
               static_cast<Activation>(activation), factors) {}

  void SetParameters(const Array<float>& theta) {
    Check(theta.size() == actor_.NumParameters(),
          "set_parameters: a theta of another size");
    actor_.SetParameters(theta.data());
  }

  Array<uint8_t> Stack() {
    Array<uint8_t> copy({frame_.first, frame_.second, Actor::kStack});
    std::copy(actor_.Stack().begin(), actor_.Stack().end(),
              copy.mutable_data());
    return copy;
  }

  void SetStack(const Array<uint8_t>& stack) {
    Check(stack.ndim() == 3 && stack.shape(0) == frame_.first &&
              stack.shape(1) == frame_.second &&
              stack.shape(2) == Actor::kStack,
          "set_stack: an observation of another shape");
    std::copy_n(stack.data(), stack.size(), actor_.Stack().begin());
  }

  void Push(const Array<uint8_t>& frame, bool fresh) {
    Check(HasShape(frame, frame_), "push: a frame of another shape");
    actor_.Push(frame.data(), fresh);
  }

  int Act(const std::optional<Array<double>>& uniforms, Array<float>& logits,
          Array<int32_t>& choices) {
    Check((!uniforms || uniforms->size() == actor_.NumFactors()) &&
              logits.size() == actor_.NumOutputs() &&
              choices.size() == actor_.NumFactors(),
          "act: arrays of other sizes");
    return actor_.Act(uniforms ? uniforms->data() : nullptr,
                      logits.mutable_data(), choices.mutable_data());
  }

 private:
  Shape frame_;
  Actor actor_;
};

}  // namespace
}  // namespace trpo_tf

PYBIND11_MODULE(_atari, m) {
  using pybind11::arg;
  using trpo_tf::CheckedActor;
  using trpo_tf::CheckedScreens;
  using trpo_tf::Shape;
  pybind11::class_<CheckedScreens>(m, "Screens")
      .def(pybind11::init<const Shape&, const Shape&, const Shape&>(),
           arg("screen"), arg("rows"), arg("frame"),
           "Heights and widths; first and last (exclusive) row that is seen.")
      .def("now", &CheckedScreens::Now, arg("place"),
           "Where the first (0) or second (1) screen is to be written.")
      .def("see", &CheckedScreens::See, arg("place"),
           "Takes what was written; whether all its colours are known.")
      .def("learn", &CheckedScreens::Learn, arg("place"),
           arg("grey").noconvert(), "Learns from that screen in grey.")
      .def("frame", &CheckedScreens::Frame, arg("count"),
           arg("out").noconvert(),
           "Writes the frame of the second screen or of both.");
  pybind11::class_<CheckedActor>(m, "Actor")
      .def(pybind11::init<const Shape&, const std::vector<int>&,
                          const std::vector<int>&, int,
                          const std::vector<int>&>(),
           arg("frame"), arg("filters"), arg("hidden_sizes"), arg("activation"),
           arg("factors"))
      .def("set_parameters", &CheckedActor::SetParameters,
           arg("theta").noconvert())
      .def("stack", &CheckedActor::Stack, "A copy of the observation.")
      .def("set_stack", &CheckedActor::SetStack, arg("stack").noconvert())
      .def("push", &CheckedActor::Push, arg("frame").noconvert(), arg("fresh"),
           "Appends a frame; a fresh one follows black ones.")
      .def("act", &CheckedActor::Act, arg("uniforms").noconvert(),
           arg("logits").noconvert(), arg("choices").noconvert(),
           "Writes logits and choices; returns the action's number.");
}
