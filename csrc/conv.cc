#include "conv.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vectorize.h"

namespace trpo_tf {
namespace {

constexpr int kKernel = 4, kStride = 2;

// n filters at `positions` neighbours, `step` inputs apart, whose sums stay in
// registers while the patches, `rows` rows of `length` inputs, are walked.
template <int positions, int n>
TRPO_TF_INLINE void Patches(const float* kernel, const float* bias,
                            const float* in, int rows, int row_size, int length,
                            int step, int filters, float* out) {
  float sum[positions][n];
  for (int p = 0; p < positions; p++) {
    for (int k = 0; k < n; k++) sum[p][k] = bias[k];
  }
  for (int i = 0; i < rows; i++, in += row_size) {
    for (int c = 0; c < length; c++, kernel += filters) {
      for (int k = 0; k < n; k++) {
        for (int p = 0; p < positions; p++) {
          sum[p][k] = __builtin_fmaf(in[p * step + c], kernel[k], sum[p][k]);
        }
      }
    }
  }
  for (int p = 0; p < positions; p++) {
    for (int k = 0; k < n; k++) out[p * filters + k] = sum[p][k];
  }
}

// out[p][f] = bias[f] + the sum over the patch at in + p * step, for p < count.
// A dense layer is one whose patches are whole inputs of one row.
TRPO_TF_VECTORIZE
void Convolve(const float* kernel, const float* in, int rows, int row_size,
              int length, int step, int filters, int count, float* out) {
  const float* bias = kernel + rows * length * filters;
  int f = 0;
#define PATCHES(positions, n)                                                  \
  for (; count - p >= positions; p += positions) {                             \
    Patches<positions, n>(kernel + f, bias + f, in + p * step, rows, row_size, \
                          length, step, filters, out + p * filters + f);       \
  }
#define FILTERS(n)                                          \
  for (; filters - f >= n; f += n) {                        \
    int p = 0;                                              \
    PATCHES(6, n) PATCHES(4, n) PATCHES(2, n) PATCHES(1, n) \
  }
  FILTERS(16)
  FILTERS(8)
  FILTERS(4)
  FILTERS(1)
#undef FILTERS
#undef PATCHES
}

TRPO_TF_VECTORIZE
void Scale(const uint8_t* pixels, size_t n, float* out) {
  for (size_t i = 0; i < n; i++) {
    out[i] = static_cast<float>(pixels[i]) / 255.0f;
  }
}

// out[i] = a[i] | b[i] | c[i] | d[i]
void Or(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d,
        int n, uint8_t* out) {
  for (int i = 0; i < n; i++) out[i] = a[i] | b[i] | c[i] | d[i];
}

}  // namespace

ConvNetwork::ConvNetwork(int height, int width, int channels,
                         const std::vector<int>& filters,
                         const std::vector<int>& hidden, int outputs,
                         Activation activation, int slots)
    : input_(size_t{1} * height * width * channels), slots_(slots) {
  int first = 0;
  for (const int count : filters) {
    const int rows = (height - kKernel) / kStride + 1;
    const int columns = (width - kKernel) / kStride + 1;
    layers_.push_back({height, width, channels, rows, columns, count, first});
    first += (kKernel * kKernel * channels + 1) * count;
    height = rows;
    width = columns;
    channels = count;
  }
  head_.sizes = {height * width * channels};
  head_.sizes.insert(head_.sizes.end(), hidden.begin(), hidden.end());
  head_.sizes.push_back(outputs);
  head_.activation = activation;
  rest_.sizes.assign(head_.sizes.begin() + 1, head_.sizes.end());
  rest_.activation = activation;
  scratch_.resize(2 * rest_.Width());
  theta_.resize(first + head_.NumParameters());
  features_.resize(size_t{1} * slots * NumFeatures());
  hidden_.resize(size_t{1} * slots * head_.sizes[1]);
  for (Slot& slot : slots_) {
    for (size_t i = 0; i + 1 < layers_.size(); i++) {
      slot.activations.emplace_back(layers_[i].Size());
    }
  }
}

void ConvNetwork::SetParameters(const float* theta) {
  if (std::equal(theta_.begin(), theta_.end(), theta)) return;
  std::copy_n(theta, theta_.size(), theta_.begin());
  for (Slot& slot : slots_) slot.pixels.clear();
}

void ConvNetwork::FindChanged(Slot& slot, const uint8_t* pixels) {
  const Layer& layer = layers_.front();
  const int row_size = layer.width * layer.channels;
  changed_.assign(size_t{1} * layer.height * layer.width, 1);
  if (slot.pixels.empty()) {
    slot.pixels.assign(pixels, pixels + input_.size());
    Scale(pixels, input_.size(), input_.data());
    return;
  }
  uint8_t *changed = changed_.data(), *before = slot.pixels.data();
  float* scaled = input_.data();
  for (int y = 0; y < layer.height; y++) {
    if (std::memcmp(pixels, before, row_size) == 0) {
      std::fill_n(changed, layer.width, 0);
    } else {
      for (int x = 0; x < layer.width; x++) {
        const int at = x * layer.channels;
        changed[x] = std::memcmp(pixels + at, before + at, layer.channels) != 0;
      }
      std::copy_n(pixels, row_size, before);
    }
    Scale(pixels, row_size, scaled);
    changed += layer.width;
    pixels += row_size;
    before += row_size;
    scaled += row_size;
  }
}

void ConvNetwork::SpreadChanged(const Layer& layer) {
  const int width = layer.width, out_width = layer.out_width;
  inputs_changed_.swap(changed_);
  changed_.resize(size_t{1} * layer.out_height * out_width);
  rows_changed_.resize(width);
  for (int y = 0; y < layer.out_height; y++) {
    const uint8_t* row = inputs_changed_.data() + kStride * y * width;
    Or(row, row + width, row + 2 * width, row + 3 * width, width,
       rows_changed_.data());
    for (int x = 0; x < out_width; x++) {
      const uint8_t* in = rows_changed_.data() + kStride * x;
      changed_[y * out_width + x] = in[0] | in[1] | in[2] | in[3];
    }
  }
}

void ConvNetwork::Apply(const Layer& layer, const float* in, float* out) const {
  const int row_size = layer.width * layer.channels;
  const int step = kStride * layer.channels;
  for (int y = 0; y < layer.out_height; y++) {
    const uint8_t* changed = changed_.data() + y * layer.out_width;
    for (int x = 0, end; x < layer.out_width; x = end) {
      end = x + 1;
      if (!changed[x]) continue;
      while (end < layer.out_width && changed[end]) end++;
      float* results = out + (y * layer.out_width + x) * layer.filters;
      Convolve(theta_.data() + layer.first,
               in + kStride * y * row_size + x * step, kKernel, row_size,
               kKernel * layer.channels, step, layer.filters, end - x, results);
      Activate(head_.activation, results, (end - x) * layer.filters);
    }
  }
}

void ConvNetwork::Forward(int first, int n, const uint8_t* pixels, float* out) {
  for (int i = 0; i < n; i++, pixels += input_.size()) {
    Slot& slot = slots_[first + i];
    FindChanged(slot, pixels);
    const float* in = input_.data();
    for (size_t l = 0; l < layers_.size(); l++) {
      const bool last = l + 1 == layers_.size();
      float* results = last ? features_.data() + (first + i) * NumFeatures()
                            : slot.activations[l].data();
      SpreadChanged(layers_[l]);
      Apply(layers_[l], in, results);
      in = results;
    }
  }
  ApplyHead(features_.data() + first * NumFeatures(), n, out);
}

void ConvNetwork::ApplyHead(const float* features, int n, float* out) {
  const int size = NumFeatures(), units = head_.sizes[1];
  const float* parameters =
      theta_.data() + theta_.size() - head_.NumParameters();
  const bool linear = head_.sizes.size() == 2;
  float* results = linear ? out : hidden_.data();
  Convolve(parameters, features, 1, 0, size, size, units, n, results);
  if (linear) return;
  Activate(head_.activation, results, n * units);
  parameters += (size + 1) * units;
  for (int i = 0; i < n; i++) {
    trpo_tf::Forward(rest_, parameters, results + i * units, scratch_.data(),
                     out + i * NumOutputs());
  }
}

}  // namespace trpo_tf
