#include "actor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "check.h"

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

template <typename T>
py::array Copy(const T* data, const std::vector<py::ssize_t>& shape) {
  return py::array_t<T>(shape, data);
}

}  // namespace

Actor::Actor(std::pair<int, int> frame, const std::vector<int>& filters,
             const std::vector<int>& hidden_sizes, int activation,
             const std::vector<int>& factors)
    : height_(frame.first),
      width_(frame.second),
      factors_(factors),
      network_(frame.first, frame.second, kStack, filters, hidden_sizes,
               std::accumulate(factors.begin(), factors.end(), 0),
               Activation{activation}),
      stack_(height_ * width_ * kStack) {
  for (int n : factors) Require(n > 0, "factors must be positive");
}

void Actor::SetParameters(const py::object& theta) {
  network_.SetParameters(
      Data<const float>(theta, "theta", {network_.NumParameters()}));
}

py::array Actor::Stack() const {
  return Copy(stack_.data(), {height_, width_, kStack});
}

void Actor::Begin(const py::object& stack, int frames) {
  Require(frames >= 0 && frames <= kStack, "a stack has four frames");
  const auto* pixels =
      Data<const uint8_t>(stack, "stack", {height_, width_, kStack});
  record_ = Record();
  std::copy_n(pixels, stack_.size(), stack_.begin());
  for (int place = kStack - frames; place < kStack; place++) {
    uint8_t* frame = NewFrame();
    for (py::ssize_t i = 0; i < height_ * width_; i++) {
      frame[i] = pixels[i * kStack + place];
    }
  }
}

void Actor::BeginGame(const py::object& frame) {
  const auto* pixels = Data<const uint8_t>(frame, "frame", {height_, width_});
  std::fill(stack_.begin(), stack_.end(), 0);
  record_.last.fill(0);
  std::copy_n(pixels, height_ * width_, NewFrame());
  Push(pixels);
}

void Actor::Observe(Screens& screens, int count) {
  Require(screens.shape().rows == height_ && screens.shape().columns == width_,
          "screens whose frames are of another shape");
  uint8_t* frame = NewFrame();
  screens.Frame(count, frame);
  Push(frame);
}

// Returns the next frame on record, which becomes the newest one of the
// observation.
uint8_t* Actor::NewFrame() {
  std::vector<uint8_t>& frames = record_.frames;
  const size_t size = height_ * width_;
  frames.resize(frames.size() + size);
  std::copy(record_.last.begin() + 1, record_.last.end(), record_.last.begin());
  record_.last.back() = static_cast<int32_t>(frames.size() / size);
  return frames.data() + frames.size() - size;
}

void Actor::Push(const uint8_t* frame) {
  uint8_t* pixel = stack_.data();
  for (py::ssize_t i = 0; i < height_ * width_; i++, pixel += kStack) {
    uint32_t frames;  // the oldest one in the lowest bits
    std::memcpy(&frames, pixel, kStack);
    frames = frames >> 8 | uint32_t{frame[i]} << 24;
    std::memcpy(pixel, &frames, kStack);
  }
}

int Actor::Act(const py::object& uniforms) {
  const auto factors = static_cast<py::ssize_t>(factors_.size());
  const double* uniform =
      uniforms.is_none() ? nullptr
                         : Data<const double>(uniforms, "uniforms", {factors});
  record_.observations.insert(record_.observations.end(), record_.last.begin(),
                              record_.last.end());
  std::vector<float>& outputs = record_.outputs;
  outputs.resize(outputs.size() + network_.NumOutputs());
  float* logits = outputs.data() + outputs.size() - network_.NumOutputs();
  network_.Forward(stack_.data(), logits);
  int number = 0;
  for (const int n : factors_) {
    const int choice =
        uniform ? Draw(logits, n, *uniform++) : Likeliest(logits, n);
    record_.choices.push_back(choice);
    number = number * n + choice;
    logits += n;
  }
  return number;
}

py::array Actor::Rows() const { return Copy(record_.last.data(), {kStack}); }

py::array Actor::Frames() const {
  const auto size = static_cast<py::ssize_t>(record_.frames.size());
  return Copy(record_.frames.data(),
              {size / (height_ * width_), height_, width_});
}

py::tuple Actor::Actions() const {
  const auto factors = static_cast<py::ssize_t>(factors_.size());
  const auto steps = static_cast<py::ssize_t>(record_.choices.size()) / factors;
  return py::make_tuple(
      Copy(record_.observations.data(), {steps, kStack}),
      Copy(record_.outputs.data(), {steps, network_.NumOutputs()}),
      Copy(record_.choices.data(), {steps, factors}));
}

}  // namespace trpo_tf
