// A game's observation and the policy that acts on it.
#ifndef TRPO_TF_CSRC_ACTOR_H_
#define TRPO_TF_CSRC_ACTOR_H_

#include <cstdint>
#include <vector>

#include "conv.h"

namespace trpo_tf {

// The observation is the stack of the newest frames, the oldest one first.
class Actor {
 public:
  static constexpr int kStack = 4;

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
  std::vector<uint8_t>& Stack() { return stack_; }

  // Appends a frame; with `fresh` those before it become black.
  void Push(const uint8_t* frame, bool fresh);

  // Acts by the inverse distribution function of a uniform for each factor,
  // or, without uniforms, by the likeliest choices. Writes the logits and the
  // choices; returns the action's number, the last factor the fastest.
  int Act(const double* uniforms, float* logits, int32_t* choices);

 private:
  std::vector<int> factors_;
  ConvNetwork network_;
  std::vector<uint8_t> stack_;
};

}  // namespace trpo_tf

#endif  // TRPO_TF_CSRC_ACTOR_H_
