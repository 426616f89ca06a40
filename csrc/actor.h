// A game's observation and the policy that acts on it.
#ifndef TRPO_TF_CSRC_ACTOR_H_
#define TRPO_TF_CSRC_ACTOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "atari_screen.h"
#include "conv.h"

namespace trpo_tf {

// The observation is the stack of the newest frames, the oldest one first. What
// is seen and done is put on record.
class Actor {
 public:
  static constexpr int kStack = 4;

  // Observations are rows of frames; row 0 is black, row i is frame i - 1.
  struct Record {
    std::vector<uint8_t> frames;        // each once
    std::vector<int32_t> observations;  // before each action
    std::vector<float> outputs;
    std::vector<int32_t> choices;
    std::array<int32_t, kStack> last{};  // the observation
  };

  // factors: the choices of every discrete factor of an action; the network's
  // outputs are their logits.
  Actor(int height, int width, const std::vector<int>& filters,
        const std::vector<int>& hidden, Activation activation,
        const std::vector<int>& factors);

  int NumParameters() const { return network_.NumParameters(); }
  int NumOutputs() const { return network_.NumOutputs(); }
  int NumFactors() const { return static_cast<int>(factors_.size()); }

  void SetParameters(const float* theta) { network_.SetParameters(theta); }

  // The observation, height x width x kStack.
  const std::vector<uint8_t>& Stack() const { return stack_; }

  // Begins a record with the `frames` newest frames of a stack.
  void Begin(const uint8_t* stack, int frames);

  // A game begins with this frame: those before it become black.
  void BeginGame(const uint8_t* frame);

  // Appends the frame of the second screen (1) or of both (2).
  void Observe(Screens& screens, int count);

  // Acts by the inverse distribution function of a uniform for each factor,
  // or, without uniforms, by the likeliest choices. Returns the action's
  // number, the last factor the fastest.
  int Act(const double* uniforms);

  const Record& Seen() const { return record_; }

 private:
  size_t FrameSize() const { return stack_.size() / kStack; }
  uint8_t* NewFrame();
  void Push(const uint8_t* frame);

  std::vector<int> factors_;
  ConvNetwork network_;
  std::vector<uint8_t> stack_;
  Record record_;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ACTOR_H_
