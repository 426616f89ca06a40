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
    Check(out.ndim() == 2, "frame: an array of another size");
    CheckFrame(count, {static_cast<int>(out.shape(0)),
                       static_cast<int>(out.shape(1))});
    screens_.Frame(count, out.mutable_data());
  }

  void CheckFrame(int count, const Shape& shape) const {
    CheckPlace(count - 1);
    Check(shape == frame_, "frame: an array of another size");
  }

  Screens& screens() { return screens_; }

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

  Array<uint8_t> Stack() const {
    return Copy(actor_.Stack().data(),
                {frame_.first, frame_.second, Actor::kStack});
  }

  void Begin(const Array<uint8_t>& stack, int frames) {
    Check(stack.ndim() == 3 && stack.shape(0) == frame_.first &&
              stack.shape(1) == frame_.second &&
              stack.shape(2) == Actor::kStack,
          "begin: an observation of another shape");
    Check(frames >= 0 && frames <= Actor::kStack,
          "begin: a stack has four frames");
    actor_.Begin(stack.data(), frames);
  }

  void BeginGame(const Array<uint8_t>& frame) {
    Check(HasShape(frame, frame_), "begin_game: a frame of another shape");
    actor_.BeginGame(frame.data());
  }

  void Observe(CheckedScreens& screens, int count) {
    screens.CheckFrame(count, frame_);
    actor_.Observe(screens.screens(), count);
  }

  int Act(const std::optional<Array<double>>& uniforms) {
    Check(!uniforms || uniforms->size() == actor_.NumFactors(),
          "act: a uniform for every factor");
    return actor_.Act(uniforms ? uniforms->data() : nullptr);
  }

  Array<int32_t> Rows() const {
    return Copy(actor_.Seen().last.data(), {Actor::kStack});
  }

  Array<uint8_t> Frames() const {
    const std::vector<uint8_t>& frames = actor_.Seen().frames;
    const py::ssize_t size = py::ssize_t{1} * frame_.first * frame_.second;
    const auto count = static_cast<py::ssize_t>(frames.size()) / size;
    return Copy(frames.data(), {count, frame_.first, frame_.second});
  }

  py::tuple Actions() const {
    const Actor::Record& seen = actor_.Seen();
    const auto steps =
        static_cast<py::ssize_t>(seen.observations.size()) / Actor::kStack;
    return py::make_tuple(
        Copy(seen.observations.data(), {steps, Actor::kStack}),
        Copy(seen.outputs.data(), {steps, actor_.NumOutputs()}),
        Copy(seen.choices.data(), {steps, actor_.NumFactors()}));
  }

 private:
  template <typename T>
  static Array<T> Copy(const T* data, std::vector<py::ssize_t> shape) {
    return Array<T>(std::move(shape), data);
  }

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
      .def("begin", &CheckedActor::Begin, arg("stack").noconvert(),
           arg("frames"),
           "Begins a record with the newest frames of an observation.")
      .def("begin_game", &CheckedActor::BeginGame, arg("frame").noconvert(),
           "Observes the first frame of a game, black ones before it.")
      .def("observe", &CheckedActor::Observe, arg("screens"), arg("count"),
           "Observes the frame of the second screen or of both.")
      .def("act", &CheckedActor::Act, arg("uniforms").noconvert(),
           "Returns the action's number.")
      .def("rows", &CheckedActor::Rows, "Of the observation, in the frames.")
      .def("frames", &CheckedActor::Frames, "Those of the record.")
      .def("actions", &CheckedActor::Actions,
           "Observations, logits and choices of the record.");
}
