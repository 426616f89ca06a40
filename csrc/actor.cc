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

void Actor::Begin(const uint8_t* stack, int frames) {
  record_ = Record();
  std::copy_n(stack, stack_.size(), stack_.begin());
  for (int place = kStack - frames; place < kStack; place++) {
    uint8_t* frame = NewFrame();
    for (size_t i = 0; i < FrameSize(); i++) {
      frame[i] = stack[i * kStack + place];
    }
  }
}

void Actor::BeginGame(const uint8_t* frame) {
  std::fill(stack_.begin(), stack_.end(), 0);
  record_.last.fill(0);
  std::copy_n(frame, FrameSize(), NewFrame());
  Push(frame);
}

void Actor::Observe(Screens& screens, int count) {
  uint8_t* frame = NewFrame();
  screens.Frame(count, frame);
  Push(frame);
}

// The next frame on record, which becomes the newest one of the observation.
uint8_t* Actor::NewFrame() {
  std::vector<uint8_t>& frames = record_.frames;
  frames.resize(frames.size() + FrameSize());
  std::copy(record_.last.begin() + 1, record_.last.end(), record_.last.begin());
  record_.last.back() = static_cast<int32_t>(frames.size() / FrameSize());
  return frames.data() + frames.size() - FrameSize();
}

void Actor::Push(const uint8_t* frame) {
  uint8_t* pixel = stack_.data();
  for (size_t i = 0; i < FrameSize(); i++, pixel += kStack) {
    uint32_t frames;  // the oldest one in the lowest bits
    std::memcpy(&frames, pixel, kStack);
    frames = frames >> 8 | uint32_t{frame[i]} << 24;
    std::memcpy(pixel, &frames, kStack);
  }
}

int Actor::Act(const double* uniforms) {
  record_.observations.insert(record_.observations.end(), record_.last.begin(),
                              record_.last.end());
  std::vector<float>& outputs = record_.outputs;
  outputs.resize(outputs.size() + NumOutputs());
  float* logits = outputs.data() + outputs.size() - NumOutputs();
  network_.Forward(stack_.data(), logits);
  int number = 0;
  for (const int n : factors_) {
    const int choice =
        uniforms ? Draw(logits, n, *uniforms++) : Likeliest(logits, n);
    record_.choices.push_back(choice);
    number = number * n + choice;
    logits += n;
  }
  return number;
}

}  // namespace trpo_tf
