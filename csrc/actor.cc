#include "actor.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>

namespace trpo_tf {
namespace {

int Likeliest(const float* logits, int n) {
  return static_cast<int>(std::max_element(logits, logits + n) - logits);
}

// The first choice whose cumulative probability is above the uniform.
int Draw(const float* logits, int n, double uniform) {
  const double most = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int k = 0; k < n; k++) sum += std::exp(logits[k] - most);
  const double bound = uniform * sum;
  double below = 0;
  for (int k = 0; k + 1 < n; k++) {
    below += std::exp(logits[k] - most);
    if (below > bound) return k;
  }
  return n - 1;
}

}  // namespace

Actor::Actor(int height, int width, const std::vector<int>& filters,
             const std::vector<int>& hidden, Activation activation,
             const std::vector<int>& factors)
    : factors_(factors),
      network_(height, width, kStack, filters, hidden,
               std::accumulate(factors.begin(), factors.end(), 0), activation),
      stack_(size_t{1} * height * width * kStack) {}

void Actor::Push(const uint8_t* frame, bool fresh) {
  if (fresh) std::fill(stack_.begin(), stack_.end(), 0);
  uint8_t* pixel = stack_.data();
  for (size_t i = 0; i < stack_.size() / kStack; i++, pixel += kStack) {
    uint32_t frames;  // the oldest one in the lowest bits
    std::memcpy(&frames, pixel, kStack);
    frames = frames >> 8 | uint32_t{frame[i]} << 24;
    std::memcpy(pixel, &frames, kStack);
  }
}

int Actor::Act(const double* uniforms, float* logits, int32_t* choices) {
  network_.Forward(stack_.data(), logits);
  int number = 0;
  for (const int n : factors_) {
    *choices = uniforms ? Draw(logits, n, *uniforms++) : Likeliest(logits, n);
    number = number * n + *choices++;
    logits += n;
  }
  return number;
}

}  // namespace trpo_tf
