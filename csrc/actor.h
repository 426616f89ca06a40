// A game's observation and the policy that acts on it.
#ifndef TRPO_TF_CSRC_ACTOR_H_
#define TRPO_TF_CSRC_ACTOR_H_

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "arrays.h"
#include "atari_screen.h"
#include "conv.h"

namespace trpo_tf {

// An Actor observes the stack of the newest frames, the oldest one first, and
// records what it sees and does. Observations are recorded as rows of frames:
// row 0 is black, row i is frame i - 1.
class Actor {
 public:
  static constexpr py::ssize_t kStack = 4;

  // An action has discrete factors of so many choices each. The network's
  // outputs are their logits. Throws where a size is not positive.
  Actor(std::pair<int, int> frame, const std::vector<int>& filters,
        const std::vector<int>& hidden_sizes, int activation,
        const std::vector<int>& factors);

  void SetParameters(const py::object& theta);

  // Returns a copy of the observation, height x width x kStack.
  py::array Stack() const;

  // Begins a record with the `frames` newest frames of a stack.
  void Begin(const py::object& stack, int frames);

  // Begins a game with this frame. Those before it become black.
  void BeginGame(const py::object& frame);

  // Appends the frame of the second screen (1) or of both (2). Throws where
  // their frames are of another size.
  void Observe(Screens& screens, int count);

  // Acts by the inverse distribution function of a uniform for each factor,
  // or by the likeliest choices if there are no uniforms. Returns the action's
  // number, which counts the last factor the fastest.
  int Act(const py::object& uniforms);

  // Returns the observation as rows of the record's frames.
  py::array Rows() const;
  // Returns the frames on record.
  py::array Frames() const;
  // Returns observations before the actions, logits and choices on record.
  py::tuple Actions() const;

 private:
  struct Record {
    std::vector<uint8_t> frames;        // each once
    std::vector<int32_t> observations;  // before each action
    std::vector<float> outputs;
    std::vector<int32_t> choices;
    std::array<int32_t, kStack> last{};  // the observation
  };

  uint8_t* NewFrame();
  void Push(const uint8_t* frame);

  py::ssize_t height_, width_;
  std::vector<int> factors_;
  ConvNetwork network_;
  std::vector<uint8_t> stack_;
  Record record_;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ACTOR_H_
